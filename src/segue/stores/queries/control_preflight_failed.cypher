// A preflight that failed, noted in the control node; not noted where there is none.
MATCH (c:SegueControl {collection: $collection})
SET c.preflight_ok = false, c.preflight_warnings = $warnings, c.preflight_at = timestamp() - $milliseconds
