// A preflight that passed, noted in the control node, which is made if there is none.
MERGE (c:SegueControl {collection: $collection})
SET c.preflight_ok = true, c.preflight_warnings = $warnings, c.preflight_at = timestamp() - $milliseconds
