-- A configuration may be trained again, with another seed, to tell luck from merit.
alter table trials
    -- the number of the trial whose configuration this one trains again; null for one that is the first
    add column repeats integer,
    -- final values over all trainings of the configuration, by metric, once it was trained again: kept with the first, so that
    -- lists need not look for the others
    add column means json,
    add constraint trials_repeats_fkey foreign key (study_id, repeats) references trials (study_id, number)
        on delete cascade,
    add constraint trials_repeats_an_earlier_one check (repeats < number),
    drop constraint trials_candidate_unique;

-- what is tried for the first time is new; what is repeated says so
create unique index trials_candidate_unique on trials (study_id, candidate_hash) where repeats is null;
create index trials_repeats on trials (study_id, repeats) where repeats is not null;
