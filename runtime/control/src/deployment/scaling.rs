//! Scaling: what happens when the wanted number changes, also in the middle of a rollout or while paused.

use super::{DESIRED, MOST, Member, Rollout};
use crate::deployment::strategy::Strategy;

/// Sets the targets for a changed number of replicas.
pub(super) fn follow(rollout: &mut Rollout<'_>) {
    let replicas = rollout.replicas;
    let active = rollout.members().filter(|member| member.size() > 0).count();
    if active <= 1 {
        let newest_only = active == 0;
        let has_new = rollout.new.is_some();
        let last = rollout.old.len().wrapping_sub(1);
        if newest_only {
            match &mut rollout.new {
                Some(new) => new.target = replicas,
                None if !has_new && last != usize::MAX => rollout.old[last].target = replicas,
                None => {}
            }
        } else if let Some(only) = rollout.members_mut().find(|member| member.size() > 0) {
            only.target = replicas;
        }
        return;
    }
    if rollout.new.as_ref().is_some_and(|new| is_saturated(new, replicas)) {
        rollout.old.iter_mut().for_each(|member| member.target = 0);
        return;
    }
    if matches!(rollout.strategy, Strategy::Rolling { .. }) {
        proportionally(rollout);
    }
}

/// It has all the pods that are wanted, and they are available.
fn is_saturated(new: &Member<'_>, replicas: i32) -> bool {
    new.size() == replicas && new.number(DESIRED) == Some(replicas) && new.status().and_then(|status| status.available_replicas).unwrap_or(0) == replicas
}

/// Spreads the change over the sets that have pods, in proportion to their sizes; what rounding leaves goes to the largest.
fn proportionally(rollout: &mut Rollout<'_>) {
    let (replicas, most) = (rollout.replicas, rollout.most());
    let room = if replicas > 0 { most } else { 0 };
    let to_add = room - rollout.total_size();
    let mut active: Vec<&mut Member<'_>> = rollout.members_mut().filter(|member| member.size() > 0).collect();
    // The newest of equals gains first, the oldest of equals loses first.
    active.sort_by(|one, other| other.size().cmp(&one.size()).then(if to_add > 0 { other.age().cmp(&one.age()) } else { one.age().cmp(&other.age()) }));
    let mut added = 0;
    for member in &mut active {
        let share = share(member, replicas, most);
        let left = to_add - added;
        let share = if to_add > 0 { share.min(left).max(0) } else { share.max(left).min(0) };
        member.target = (member.size() + share).max(0);
        added += share;
    }
    if let Some(largest) = active.first_mut().filter(|_| to_add != 0) {
        largest.target = (largest.target + to_add - added).max(0);
    }
}

/// What a set gains or loses when the size of the whole changes from what is noted on it to `most`.
fn share(member: &Member<'_>, replicas: i32, most: i32) -> i32 {
    let size = i64::from(member.size());
    if replicas == 0 {
        return -member.size();
    }
    let noted = i64::from(member.number(MOST).filter(|noted| *noted > 0).unwrap_or(most));
    // Rounded to the nearest.
    let fair = (size * i64::from(most) * 2 + noted) / (noted * 2);
    i32::try_from(fair - size).unwrap_or(0)
}
