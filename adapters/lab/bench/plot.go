package bench

// Plot draws the run.
func (r *Run) Plot() string { return "" }
