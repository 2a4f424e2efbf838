-- Trials go on from results of stages that others made: files of theirs, found by a name that tells what they follow from.
create index artifacts_stage on artifacts (name) where name like 'stage.%';
