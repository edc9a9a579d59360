// The installation that is noted, if any.
MATCH (c:SegueControl {collection: $collection})
WHERE c.capture = 'trigger'
RETURN c.capture_token AS token
