package policy

import "github.com/weirnet/weir/core/datapath"

// Op is one write to the datapath's tables. The set of types is closed: PutRow, DeleteRow, SetClass
// and SetPolicy. Ops of one Flush are executed in order; see Compiler.Flush for what that buys.
type Op interface{ policyOp() }

// PutRow writes a row of table "policy".
type PutRow struct {
	Key datapath.PolicyKey
	Row datapath.PolicyRow
}

// DeleteRow removes a row of table "policy".
type DeleteRow struct{ Key datapath.PolicyKey }

// SetClass moves an identity to a class; table "classes". Class 0 clears the row.
type SetClass struct {
	Key   datapath.ClassKey
	Class datapath.Class
}

// SetPolicy puts a policy in force for an endpoint; table "ep_policy". Policy 0 takes the endpoint
// out of force: nothing passes. The caller chooses the epoch.
type SetPolicy struct {
	Endpoint datapath.EndpointID
	Policy   datapath.PolicyID
}

func (PutRow) policyOp()    {}
func (DeleteRow) policyOp() {}
func (SetClass) policyOp()  {}
func (SetPolicy) policyOp() {}
