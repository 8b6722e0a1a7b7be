// Package access holds who may do what in the simulated cloud: role assignments,
// and the question whether one of them allows an action.
//
// Life of a question: a service knows the caller's object id from its token, the
// action from the request, and the scope from the resource's id; Allows looks for
// an assignment of the caller at that scope or above it whose role has the
// action. There are two such books, as in Azure: the directory's for everything
// that has an ARM id, and each Managed HSM's own.
package access

import (
	"slices"
	"strings"
	"sync"

	"cloister/internal/fault"
	"cloister/internal/localcloud/wire"
)

// Assignment gives a principal a role at a scope and everything below it.
type Assignment struct {
	Name          string `json:"name"`  // a UUID
	Scope         string `json:"scope"` // "/", or a path without a slash at its end
	Role          string `json:"role"`  // a Role's ID
	Principal     string `json:"principal"`
	PrincipalType string `json:"principalType,omitempty"`
}

func (a Assignment) same(b Assignment) bool {
	return strings.EqualFold(a.Scope, b.Scope) && strings.EqualFold(a.Role, b.Role) && strings.EqualFold(a.Principal, b.Principal)
}

// The two ways in which an assignment can be in the way of another.
var (
	// ErrExists: the principal has the role there, under another name.
	ErrExists = fault.Sentinel(fault.Conflict, "the role assignment already exists")
	// ErrTaken: the name is of an assignment of something else.
	ErrTaken = fault.Sentinel(fault.Conflict, "the role assignment's name is taken")
)

// Book is a list of assignments in a file. It is safe for concurrent use.
type Book struct {
	roles []Role
	file  string

	mu          sync.Mutex // guards assignments, and writers of file
	assignments []Assignment
}

// Open returns the book of a file, which need not be there, for a set of roles.
func Open(file string, roles []Role) (*Book, error) {
	b := &Book{roles: roles, file: file}
	_, err := wire.LoadJSON(file, &b.assignments)
	return b, err
}

// Put adds an assignment; made is false where the same was there. Errors:
// ErrExists, ErrTaken, and fault.Usage for a role that is not in the book.
func (b *Book) Put(a Assignment) (made bool, err error) {
	if _, ok := b.role(a.Role); !ok {
		return false, fault.Errorf(fault.Usage, "", "there is no role definition %q", a.Role)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, there := range b.assignments {
		named := strings.EqualFold(there.Name, a.Name) && strings.EqualFold(there.Scope, a.Scope)
		switch {
		case named && there.same(a):
			return false, nil
		case named:
			return false, ErrTaken
		case there.same(a):
			return false, ErrExists
		}
	}
	all := append(slices.Clone(b.assignments), a)
	if err := wire.SaveJSON(b.file, all); err != nil {
		return false, err
	}
	b.assignments = all
	return true, nil
}

// Delete removes the named assignment at a scope and returns it.
func (b *Book) Delete(scope, name string) (a Assignment, found bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := b.index(scope, name)
	if i < 0 {
		return a, false, nil
	}
	a = b.assignments[i]
	all := slices.Delete(slices.Clone(b.assignments), i, i+1)
	if err := wire.SaveJSON(b.file, all); err != nil {
		return a, true, err
	}
	b.assignments = all
	return a, true, nil
}

// Get returns the named assignment at a scope.
func (b *Book) Get(scope, name string) (Assignment, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if i := b.index(scope, name); i >= 0 {
		return b.assignments[i], true
	}
	return Assignment{}, false
}

func (b *Book) index(scope, name string) int {
	return slices.IndexFunc(b.assignments, func(a Assignment) bool {
		return strings.EqualFold(a.Scope, scope) && strings.EqualFold(a.Name, name)
	})
}

// List returns the assignments that hold at a scope: those at it and above it,
// and with below also those under it.
func (b *Book) List(scope string, below bool) (out []Assignment) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, a := range b.assignments {
		if covers(a.Scope, scope) || below && covers(scope, a.Scope) {
			out = append(out, a)
		}
	}
	return out
}

// Allows reports whether a principal's roles have an action of the data plane
// (Data) or of management at a scope.
func (b *Book) Allows(principal string, plane Plane, action, scope string) bool {
	return slices.ContainsFunc(b.List(scope, false), func(a Assignment) bool {
		r, ok := b.role(a.Role)
		return ok && strings.EqualFold(a.Principal, principal) && r.has(plane, action)
	})
}

func (b *Book) role(id string) (Role, bool) {
	i := slices.IndexFunc(b.roles, func(r Role) bool { return strings.EqualFold(r.ID, id) })
	if i < 0 {
		return Role{}, false
	}
	return b.roles[i], true
}

// covers reports whether inner is outer or below it.
func covers(outer, inner string) bool {
	outer, inner = strings.ToLower(outer), strings.ToLower(inner)
	return outer == "/" || outer == inner || strings.HasPrefix(inner, outer+"/")
}
