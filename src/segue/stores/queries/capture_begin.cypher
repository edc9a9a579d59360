// Note an installation of the trigger; its token names it and no other.
MERGE (c:SegueControl {collection: $collection})
SET c.capture = 'trigger', c.capture_token = randomUUID()
RETURN c.capture_token AS token
