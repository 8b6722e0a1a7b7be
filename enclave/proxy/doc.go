// Package proxy is what stands between the application and everybody else. Its
// network holds nothing but what the runtime serves there; what of the outside it
// may reach goes through Egress, and clients come in by Ingress. Their documents
// have the lives of requests.
package proxy
