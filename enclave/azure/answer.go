package azure

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
)

// maxMessage bounds what is repeated of a service's own words, in bytes.
const maxMessage = 300

// OneLine says what a service answered in one line; the SDK draws a box around
// it. The error is still of its type. Others are returned as they are.
func OneLine(err error) error {
	var answer *azcore.ResponseError
	if !errors.As(err, &answer) {
		return err
	}
	return oneLine{answer}
}

type oneLine struct{ *azcore.ResponseError }

func (e oneLine) Unwrap() error { return e.ResponseError }

func (e oneLine) Error() string {
	text := fmt.Sprintf("HTTP %d", e.StatusCode)
	if e.ErrorCode != "" {
		text += ", " + word(e.ErrorCode)
	}
	body := ErrorBody(e.ResponseError)
	if body.Inner.Code != "" {
		text += " (" + word(body.Inner.Code) + ")"
	}
	if len(body.Message) > maxMessage {
		body.Message = body.Message[:maxMessage] + "…"
	}
	if body.Message != "" {
		text += fmt.Sprintf(": %q", body.Message)
	}
	return text
}

// word is a code as it may stand in a line: what a stranger sends can be anything.
func word(code string) string { return fmt.Sprintf("%.64s", strings.Join(strings.Fields(code), " ")) }

// Body is the form in which Azure's services say what is wrong.
type Body struct {
	Message string
	Inner   struct{ Code string } `json:"innererror"`
}

// ErrorBody reads it; the zero Body where there is none.
func ErrorBody(e *azcore.ResponseError) Body {
	var answer struct{ Error Body }
	if e.RawResponse != nil {
		if body, err := runtime.Payload(e.RawResponse); err == nil && json.Unmarshal(body, &answer) != nil {
			return Body{}
		}
	}
	return answer.Error
}
