-- A study: what the user asked for, and where it stands.
create table studies (
    id bigint generated always as identity,
    -- people and folders call a study by its name; a name that reads as a number is refused, since an id is accepted wherever a name is
    name text not null,
    -- the study file as spaces::StudySpec; json keeps the order of the parameters, which is the order of the search's coordinates
    spec json not null,
    state text not null default 'running',
    -- one sentence, why the search itself could not go on, or ended before all its trials
    error text,
    -- every trial must meet the same data, or its numbers cannot be compared
    data_fingerprint text not null,
    -- the hypervolume's reference point by metric; fixed once, since a point that moves makes the curve meaningless
    reference json,
    -- the number that the next trial gets
    trial_count integer not null default 0,
    -- rows in finishes: the next finish gets this order
    finished_count integer not null default 0,
    -- goes up by one for each visible change of the study or one of its trials, under this row's lock until commit:
    -- so a reader who has seen revision n has seen every earlier one too
    revision bigint not null default 0,
    created_at timestamptz not null default now(),
    started_at timestamptz,
    -- time in which the search was under way: pauses and the hours in which no server ran do not count
    searched_s double precision not null default 0,
    finished_at timestamptz,
    -- when revision last went up
    changed_at timestamptz not null default now(),
    constraint studies_pkey primary key (id),
    constraint studies_name_unique unique (name),
    constraint studies_name_form check (name <> '' and name !~ '^[0-9]+$'),
    constraint studies_state_known check (state in ('running', 'paused', 'cancelled', 'finished', 'failed')),
    constraint studies_error_when_failed check (error is not null or state <> 'failed'),
    constraint studies_error_at_the_end check (error is null or state in ('failed', 'finished')),
    constraint studies_finished_at_when_over check (
        (finished_at is not null) = (state in ('cancelled', 'finished', 'failed'))
    )
);
