-- A trial is the queue's item too: one truth, so that finishing it and writing its results is one transaction.
create table trials (
    id bigint generated always as identity,
    study_id bigint not null,
    -- dense within the study; with the study's seed it seeds the training
    number integer not null,
    candidate json not null,
    -- a point of the space is tried once in a study
    candidate_hash text not null,
    state text not null default 'queued',
    -- goes up with each claim and never down: measurements are kept by attempt
    attempt integer not null default 0,
    -- raised by one when a worker gives the trial back, so that being pre-empted costs nothing
    max_attempts integer not null default 3,
    -- proof of one claim; kept after the finish, so that a finish sent twice is recognised
    lease_token uuid,
    lease_until timestamptz,
    worker text,
    device text,
    -- set while a running trial is asked to stop: the state it will end in
    stop_as text,
    -- a retry waits until then
    not_before timestamptz not null default now(),
    priority integer not null default 0,
    -- of the last attempt that failed; remains while the next one runs
    failure_kind text,
    failure_message text,
    progress json,
    -- how much each technique did, what is needed to do it again: as the worker reported them
    activity json,
    provenance json,
    wall_s double precision,
    -- metrics computed exactly before anything is trained
    known json not null,
    -- what the proposal was derived from, so that a parallel search can be replayed
    snapshot json not null,
    created_at timestamptz not null default now(),
    -- of the last claim
    started_at timestamptz,
    finished_at timestamptz,
    -- the study's revision at the last visible change; no two trials of a study share one
    revision bigint not null,
    constraint trials_pkey primary key (id),
    constraint trials_study_fkey foreign key (study_id) references studies (id) on delete cascade,
    constraint trials_number_unique unique (study_id, number),
    constraint trials_candidate_unique unique (study_id, candidate_hash),
    constraint trials_revision_unique unique (study_id, revision),
    constraint trials_state_known check (
        state in ('queued', 'running', 'done', 'pruned', 'infeasible', 'failed', 'cancelled')
    ),
    constraint trials_stop_as_known check (stop_as in ('cancelled', 'pruned')),
    constraint trials_failure_kind_known check (
        failure_kind in ('out_of_memory', 'not_a_number', 'timeout', 'crash', 'data', 'inert', 'lost', 'disk')
    ),
    constraint trials_failed_with_reason check (
        state <> 'failed' or (failure_kind is not null and failure_message is not null)
    ),
    constraint trials_infeasible_with_reason check (state <> 'infeasible' or failure_message is not null),
    constraint trials_running_with_lease check (
        (state = 'running') = (lease_until is not null) and (state <> 'running' or lease_token is not null)
    ),
    constraint trials_finished_at_when_over check (
        (finished_at is not null) = (state not in ('queued', 'running'))
    )
);

-- what a claim reads: only what waits, in the order in which it is taken
create index trials_queue on trials (priority desc, id) where state = 'queued';

-- what the reaper reads. lease_until stays out of it: each heartbeat would write the index, and few trials run at once
create index trials_running on trials (id) where state = 'running';

-- One row each time a trial came to an end; never changed. The order is dense within the study, so "the first n finishes"
-- names exactly the history that a proposal was derived from, even after a failed trial was tried again.
create table finishes (
    study_id bigint not null,
    finish_order integer not null,
    trial_id bigint not null,
    attempt integer not null,
    state text not null,
    finished_at timestamptz not null default now(),
    constraint finishes_pkey primary key (study_id, finish_order),
    constraint finishes_study_fkey foreign key (study_id) references studies (id) on delete cascade,
    constraint finishes_trial_fkey foreign key (trial_id) references trials (id) on delete cascade,
    constraint finishes_state_known check (state in ('done', 'pruned', 'infeasible', 'failed', 'cancelled'))
);

create index finishes_trial on finishes (trial_id);
