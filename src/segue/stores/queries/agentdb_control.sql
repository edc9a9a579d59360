-- The control row, with the age of its last comparison.
SELECT mode, epoch, open, reason, validated_clean, validated_epoch,
    extract(epoch FROM now() - validated_at)::float8, validated_detail
FROM segue_agentdb_control
