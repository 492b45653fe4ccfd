package labels

import "encoding/json"

// requirementJSON is the JSON form of a Requirement.
type requirementJSON struct {
	Source   string   `json:"source"`
	Key      string   `json:"key"`
	Operator Operator `json:"operator"`
	Values   []string `json:"values,omitempty"`
}

// MarshalJSON writes the requirements as a list; the empty list selects everything.
func (s Selector) MarshalJSON() ([]byte, error) {
	list := make([]requirementJSON, 0, len(s.reqs))
	for _, r := range s.reqs {
		list = append(list, requirementJSON(r))
	}
	return json.Marshal(list)
}

// UnmarshalJSON reads what MarshalJSON wrote and checks it like NewSelector.
func (s *Selector) UnmarshalJSON(data []byte) error {
	var list []requirementJSON
	if err := json.Unmarshal(data, &list); err != nil {
		return err
	}
	reqs := make([]Requirement, 0, len(list))
	for _, r := range list {
		reqs = append(reqs, Requirement(r))
	}
	sel, err := NewSelector(reqs...)
	if err != nil {
		return err
	}
	*s = sel
	return nil
}

// MarshalJSON writes the labels in their canonical form, in order.
func (s Set) MarshalJSON() ([]byte, error) { return json.Marshal(s.Strings()) }

// UnmarshalJSON reads a list of labels as Parse does.
func (s *Set) UnmarshalJSON(data []byte) error {
	var list []string
	if err := json.Unmarshal(data, &list); err != nil {
		return err
	}
	set, err := ParseSet(list...)
	if err != nil {
		return err
	}
	*s = set
	return nil
}
