-- Changes the control row, if nobody was faster. Parameters: mode, epoch, open, reason, the epoch that was seen.
UPDATE segue_agentdb_control SET mode = %s, epoch = %s, open = %s, reason = %s, changed_at = now() WHERE epoch = %s
