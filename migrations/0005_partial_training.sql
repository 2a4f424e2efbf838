-- A trial may be trained to a part of its full length, be measured there, rest, and be trained on if it is promoted.
alter table trials
    -- part of the full training that its attempt goes to, or that it rests at
    add column target double precision not null default 1,
    -- part of the full training that it has results of
    add column reached double precision not null default 0,
    -- the attempt whose files hold the training's state, from which any worker can go on; null once they are dropped
    add column checkpoint_attempt integer,
    add constraint trials_target_part check (target > 0 and target <= 1),
    add constraint trials_reached_part check (reached >= 0 and reached <= 1),
    drop constraint trials_state_known,
    drop constraint trials_finished_at_when_over,
    add constraint trials_state_known check (
        state in ('queued', 'running', 'paused', 'done', 'pruned', 'infeasible', 'failed', 'cancelled')
    ),
    add constraint trials_finished_at_when_over check (
        (finished_at is not null) = (state not in ('queued', 'running', 'paused'))
    );

update trials set reached = 1 where state = 'done';

-- what the sweep of checkpoints reads
create index trials_checkpoint on trials (id) where checkpoint_attempt is not null;

-- A part of a training has a place in the same order as the ends of trials: "the first n" still names exactly the history
-- that a decision was derived from.
alter table finishes
    add column fidelity double precision not null default 1,
    add constraint finishes_fidelity_part check (fidelity > 0 and fidelity <= 1),
    drop constraint finishes_state_known,
    add constraint finishes_state_known check (
        state in ('paused', 'done', 'pruned', 'infeasible', 'failed', 'cancelled')
    );

-- One row each time a resting trial was sent on; never changed. With it the decisions of a study can be replayed.
create table promotions (
    trial_id bigint not null,
    -- the part it was sent to
    target double precision not null,
    -- what the decision was derived from
    snapshot json not null,
    promoted_at timestamptz not null default now(),
    constraint promotions_pkey primary key (trial_id, target),
    constraint promotions_trial_fkey foreign key (trial_id) references trials (id) on delete cascade,
    constraint promotions_target_part check (target > 0 and target <= 1)
);

create trigger promotions_append_only before update or delete on promotions
    for each row execute function refuse_change();
create trigger promotions_no_truncate before truncate on promotions
    for each statement execute function refuse_change();
