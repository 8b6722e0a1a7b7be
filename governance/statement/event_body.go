package statement

import "encoding/json"

// MaxEventData is the most that an application's event holds, in bytes.
const MaxEventData = 16 << 10

// AppEvent passes on what the application says. Its words are the application's,
// not the enclave's, and whoever reads the log reads them: so it takes all
// parties' consent to logging.
type AppEvent struct {
	Data []byte `json:"data"` // JSON
	ID   string `json:"id"`   // what it is about, as the application names it
	Run  Run    `json:"run"`
	// Scope groups ids, as the application likes.
	Scope string `json:"scope,omitempty"`
}

func (*AppEvent) Type() Type    { return TypeAppEvent }
func (b *AppEvent) Header() Run { return b.Run }

func (b *AppEvent) check() error {
	c := &checks{}
	c.run(b.Run, false)
	c.that(len(b.Data) <= MaxEventData, "an event of %d bytes, at most %d are allowed", len(b.Data), MaxEventData)
	c.that(json.Valid(b.Data), "the event is not JSON")
	c.required("the event's id", b.ID, maxText)
	c.text("the event's scope", b.Scope, maxText)
	return c.err
}
