package image

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"os"

	"cloister/internal/fault"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// explain gives what the libraries say a kind and a remedy.
func explain(err error) error {
	var answer *transport.Error
	switch {
	case fault.KindOf(err) != fault.Internal:
		return err
	case errors.As(err, &answer):
		return ofStatus(answer.StatusCode, err)
	case errors.Is(err, fs.ErrNotExist):
		return fault.Errorf(fault.NotFound, "correct the path", "%w", err)
	case errors.Is(err, os.ErrPermission):
		return fault.Errorf(fault.Denied, "let this user read the file", "%w", err)
	case errors.Is(err, context.Canceled):
		return err
	default:
		return fault.Errorf(fault.Unavailable, "see whether the registry is reached from here, and whether its files are whole", "%w", err)
	}
}

func ofStatus(code int, err error) error {
	switch code {
	case http.StatusUnauthorized, http.StatusForbidden:
		return fault.Errorf(fault.Denied, "sign in to the registry: docker login, podman login or az acr login", "%w", err)
	case http.StatusNotFound:
		return fault.Errorf(fault.NotFound, "correct the repository or the digest", "%w", err)
	default:
		return fault.Errorf(fault.Unavailable, "try again, and see what the registry's operator says", "%w", err)
	}
}
