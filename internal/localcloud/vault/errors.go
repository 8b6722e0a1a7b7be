package vault

import (
	"fmt"
	"net/http"
)

// apiError is a refusal in the services' error form.
type apiError struct {
	status               int
	code, message, inner string
	// note is the reason, for the request log, where message must not give it.
	note string
}

func (e *apiError) Error() string { return e.code + ": " + e.message }

func badParameter(format string, args ...any) error {
	return &apiError{status: http.StatusBadRequest, code: "BadParameter", message: fmt.Sprintf(format, args...)}
}

func forbidden(inner, format string, args ...any) error {
	return &apiError{status: http.StatusForbidden, code: "Forbidden", message: fmt.Sprintf(format, args...), inner: inner}
}

func conflict(kind, name string) error {
	return &apiError{status: http.StatusConflict, code: "Conflict", inner: "ObjectIsDeletedButRecoverable",
		message: fmt.Sprintf("%s %s is currently in a deleted but recoverable state, and its name cannot be reused; in this state, the %s can only be recovered or purged.", title(kind), name, kind)}
}

func notFound(kind, id string) error {
	return &apiError{status: http.StatusNotFound, code: title(kind) + "NotFound",
		message: fmt.Sprintf("A %s with (name/id) %s was not found in this key vault. If you recently deleted this %s you may be able to recover it using the correct recovery command.", kind, id, kind)}
}

func deletedNotFound(kind, name string) error {
	return &apiError{status: http.StatusNotFound, code: title(kind) + "NotFound",
		message: fmt.Sprintf("Deleted %s not found: %s", title(kind), name)}
}

// notVerified is the one refusal of a release, whatever the reason.
func notVerified(format string, args ...any) error {
	return &apiError{status: http.StatusForbidden, code: "Forbidden", inner: "AccessDenied",
		message: "Target environment attestation statement cannot be verified.",
		note:    fmt.Sprintf(format, args...)}
}

func title(kind string) string {
	if kind == "key" {
		return "Key"
	}
	return "Secret"
}
