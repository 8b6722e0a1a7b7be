package statement

import "fmt"

// Type names what a statement says.
type Type string

// The types of statements. A reader that meets another type must not go on as
// if it were not there: it may withdraw something.
const (
	TypePropose          Type = "propose"
	TypeAmend            Type = "amend"
	TypeApprove          Type = "approve"
	TypeReject           Type = "reject"
	TypeWithdraw         Type = "withdraw"
	TypeRotate           Type = "rotate"
	TypeConsentGrant     Type = "consent-grant"
	TypeConsentWithdraw  Type = "consent-withdraw"
	TypeProvisionRequest Type = "provision-request"
	TypeProvisionDecline Type = "provision-decline"
	TypeProvisioned      Type = "provisioned"
	TypeRunBegin         Type = "run-begin"
	TypeConsentCheck     Type = "consent-check"
	TypeRecordAccess     Type = "record-access"
	TypeRecordExecution  Type = "record-execution"
	TypeRefusal          Type = "refusal"
	TypeJournalHead      Type = "journal-head"
	TypeCompletion       Type = "completion"
	TypeAppEvent         Type = "app-event"
	TypeEgress           Type = "egress"
	TypeJob              Type = "job"
	TypeIngress          Type = "ingress"
)

// Body is what a statement says, apart from who and when.
type Body interface {
	Type() Type
	check() error
}

// RunBody is the body of a statement by a run's audit key.
type RunBody interface {
	Body
	Header() Run
}

// bodies makes an empty body of each type to decode into.
func newBody(t Type) (Body, error) {
	switch t {
	case TypePropose:
		return &Propose{}, nil
	case TypeAmend:
		return &Amend{}, nil
	case TypeApprove:
		return &Approve{}, nil
	case TypeReject:
		return &Reject{}, nil
	case TypeWithdraw:
		return &Withdraw{}, nil
	case TypeRotate:
		return &Rotate{}, nil
	case TypeConsentGrant:
		return &ConsentGrant{}, nil
	case TypeConsentWithdraw:
		return &ConsentWithdraw{}, nil
	case TypeProvisionRequest:
		return &ProvisionRequest{}, nil
	case TypeProvisionDecline:
		return &ProvisionDecline{}, nil
	case TypeProvisioned:
		return &Provisioned{}, nil
	default:
		return newRunBody(t)
	}
}

func newRunBody(t Type) (Body, error) {
	switch t {
	case TypeRunBegin:
		return &RunBegin{}, nil
	case TypeConsentCheck:
		return &ConsentCheck{}, nil
	case TypeRecordAccess:
		return &RecordAccess{}, nil
	case TypeRecordExecution:
		return &RecordExecution{}, nil
	case TypeRefusal:
		return &RunRefusal{}, nil
	case TypeJournalHead:
		return &JournalHead{}, nil
	case TypeCompletion:
		return &Completion{}, nil
	case TypeAppEvent:
		return &AppEvent{}, nil
	case TypeEgress:
		return &Egress{}, nil
	case TypeJob:
		return &Job{}, nil
	case TypeIngress:
		return &Ingress{}, nil
	default:
		return nil, fmt.Errorf("%w %q", ErrUnknownType, t)
	}
}
