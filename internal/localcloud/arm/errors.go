package arm

import (
	"fmt"
	"net/http"
)

// apiError is a refusal in the management plane's form.
type apiError struct {
	status        int
	code, message string
}

func (e *apiError) Error() string { return e.code + ": " + e.message }

func refuse(status int, code, format string, args ...any) error {
	return &apiError{status, code, fmt.Sprintf(format, args...)}
}

func notFound(id resourceID) error {
	return refuse(http.StatusNotFound, "ResourceNotFound", "The Resource '%s/%s' under scope '%s' was not found.", id.kind, id.name, id.scope)
}
