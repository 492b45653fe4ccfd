// Package agenttest runs the agent's and the CNI plugin's own programs on a node that is a network
// namespace, with a real API server and a real kernel: from the first start to the removal. It has tests
// only.
package agenttest
