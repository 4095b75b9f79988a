//! From the old sets to the new one: step by step, or all at once.

use super::{Member, Rollout, revision};
use crate::object::{Kind, Object};
use crate::pods;
use crate::view::View;

/// One step of a rolling update: the new set up as far as the surge allows, or the old ones down as far as availability does.
pub(super) fn roll(rollout: &mut Rollout<'_>, view: &View) {
    let size = new_size(rollout);
    match &mut rollout.new {
        None => revision::create_set(rollout, view, size),
        Some(new) if new.size() != size => new.target = size,
        Some(_) => shrink_old(rollout),
    }
}

/// The size for the new set now.
fn new_size(rollout: &Rollout<'_>) -> i32 {
    let size = rollout.new.as_ref().map_or(0, Member::size);
    if size >= rollout.replicas {
        return rollout.replicas;
    }
    // Pods that an old set has yet to delete take room too, or a crash between two writes could let more pods run than allowed.
    let taken: i32 = rollout.members().map(Member::room).sum();
    let room = rollout.most() - taken;
    if room <= 0 { size } else { size + room.min(rollout.replicas - size) }
}

/// Takes pods from the old sets: first those that are not available anyway, then as many as leave enough available ones.
fn shrink_old(rollout: &mut Rollout<'_>) {
    let least = rollout.replicas - rollout.strategy.unavailable();
    let new_unavailable = rollout.new.as_ref().map_or(0, |new| new.size() - new.available());
    let total = rollout.total_size();
    let may_go = total - least - new_unavailable;
    if may_go <= 0 {
        return;
    }
    let mut left = may_go;
    for member in &mut rollout.old {
        let unhealthy = (member.size() - member.available()).min(left);
        if unhealthy > 0 && observed(member) {
            member.target = member.size() - unhealthy;
            left -= unhealthy;
        }
    }
    let available = rollout.total_available();
    let mut spare = (available - least).min(left);
    for member in &mut rollout.old {
        let goes = spare.min(member.target).max(0);
        member.target -= goes;
        spare -= goes;
    }
}

/// The set's status speaks of its present specification. Before that its pods are not unhealthy, only not counted yet.
fn observed(member: &Member<'_>) -> bool {
    let seen = member.status().and_then(|status| status.observed_generation).unwrap_or(0);
    seen >= member.object.meta.generation.unwrap_or(0)
}

/// All old pods away, then the new ones.
pub(super) fn recreate(rollout: &mut Rollout<'_>, view: &View) {
    if rollout.old.iter().any(|member| member.size() > 0) {
        rollout.old.iter_mut().for_each(|member| member.target = 0);
        return;
    }
    let old_pods = rollout.old.iter().flat_map(|member| view.owned(member.object.uid()));
    if old_pods.filter(|object| object.id.kind == Kind::POD).any(|object| runs(object)) {
        return;
    }
    let replicas = rollout.replicas;
    match &mut rollout.new {
        Some(new) => new.target = replicas,
        None => revision::create_set(rollout, view, replicas),
    }
}

fn runs(object: &Object) -> bool {
    pods::pod(object).is_some_and(|pod| !pods::is_over(pod))
}
