// Note an installation of the trigger; its token names it and no other, unless the library captures already: then the time in
// which every change leaves a mark goes on unbroken, and so does what was copied in it.
MERGE (c:SegueControl {collection: $collection})
SET c.capture = 'trigger', c.capture_token = coalesce(c.library_token, randomUUID())
RETURN c.capture_token AS token
