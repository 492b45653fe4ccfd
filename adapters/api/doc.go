// Package api carries ports.Inspector and ports.Endpoints over HTTP on a unix socket, so that the
// command line and the CNI plugin talk to the agent of their node as if it were in their process.
//
// # Paths
//
// Bodies are JSON. All paths start with /v1; a later version that cannot read an earlier one's
// bodies gets a number of its own.
//
//	GET    /v1/status                ports.Status
//	GET    /v1/endpoints             []ports.EndpointInfo
//	GET    /v1/identities            []ports.IdentityInfo
//	GET    /v1/services              []ports.ServiceInfo
//	GET    /v1/nodes                 []cluster.Node
//	GET    /v1/policies              ports.PolicyInfo
//	GET    /v1/rules/{cookie}        policy.Verdict
//	GET    /v1/tables                ports.TablesDump
//	GET    /v1/flows                 []datapath.Flow
//	DELETE /v1/flows                 the number of rows removed
//	POST   /v1/observe               flow.Query in; a stream out, one JSON object a line
//	GET    /v1/ready                 nothing, or an error
//	POST   /v1/attachments/reserve   ports.ReserveRequest in, ports.Reservation out
//	POST   /v1/attachments/activate  container, interface and link in
//	POST   /v1/attachments/release   container and interface in
//	POST   /v1/attachments/lookup    container and interface in, reservation and inForce out
//	POST   /v1/attachments/retain    []ports.ContainerInterface in, names of host devices out
//
// A line of the observe stream holds a flow, news of loss, or the end: how the stream ended, with an
// error or without. A stream that breaks off without its end is an error at the client.
//
// # Errors
//
// An error is {"error": {"code": …, "message": …}}. The code names one of the sentinels of package
// ports or of package context; the client's error unwraps to it, so that errors.Is works across the
// socket, and reads like the message.
package api

// DefaultSocket is where an agent listens when it is not told otherwise.
const DefaultSocket = "/run/weir/weir.sock"

// SocketEnv is the environment variable that names another socket for clients.
const SocketEnv = "WEIR_SOCKET"
