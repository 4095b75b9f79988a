//! Secrets and agents of several parts of one build: each part sees its own and no other's.

use std::collections::BTreeSet;

use strake_build::BuildOptions;
use strake_oci::Hasher;
use strake_plan::{BuildPlan, MountKind, Op, StepId, StepIndex};

/// Whose secrets and agents are whose.
pub struct Private<'o> {
    /// What each part gives, by its name.
    parts: Vec<(&'o str, &'o BuildOptions)>,
}

impl<'o> Private<'o> {
    /// Knows what all parts give.
    pub fn new(parts: impl Iterator<Item = (&'o str, &'o BuildOptions)>) -> Self {
        Private { parts: parts.collect() }
    }

    /// Everything that is given, under the ids that the plan's steps name.
    pub fn all(&self) -> BuildOptions {
        let mut all = BuildOptions::default();
        for (place, (_, own)) in self.parts.iter().enumerate() {
            all.secrets.extend(own.secrets.iter().map(|(id, value)| (self.secret(place, id), value.clone())));
            all.ssh.extend(own.ssh.iter().map(|(id, agent)| (self.agent(place, id), agent.clone())));
        }
        all
    }

    /// The id under which a part finds a secret: another one where another part gives something else, or the part gives nothing.
    fn secret(&self, place: usize, id: &str) -> String {
        let first = self.parts.iter().find_map(|(_, own)| own.secrets.get(id));
        let own = self.parts[place].1.secrets.get(id);
        let is_same = first.map(|value| value.expose()) == own.map(|value| value.expose());
        if is_same { id.to_owned() } else { format!("{id} of {}", self.parts[place].0) }
    }

    /// The same for an agent.
    fn agent(&self, place: usize, id: &str) -> String {
        let first = self.parts.iter().find_map(|(_, own)| own.ssh.get(id));
        if first == self.parts[place].1.ssh.get(id) { id.to_owned() } else { format!("{id} of {}", self.parts[place].0) }
    }

    /// Makes the steps that a part has added name its own secrets and agents. A step that changes so, and all that stand on it, are shared with no other part.
    pub fn mark(&self, place: usize, plan: &mut BuildPlan, from: usize) {
        let mut changed: BTreeSet<usize> = BTreeSet::new();
        for index in from..plan.steps.len() {
            let mut renamed = false;
            if let Op::Run(run) = &mut plan.steps[index].op {
                for mount in &mut run.mounts {
                    let (id, own) = match &mut mount.kind {
                        MountKind::Secret { id, .. } => (self.secret(place, id), id),
                        MountKind::Ssh { id, .. } => (self.agent(place, id), id),
                        _ => continue,
                    };
                    renamed |= *own != id;
                    *own = id;
                }
            }
            let stands_on_one = plan.steps[index].op.inputs().iter().any(|StepIndex(input)| changed.contains(input));
            if renamed || stands_on_one {
                let mut hasher = Hasher::default();
                hasher.field(plan.steps[index].id.0.as_bytes());
                hasher.field(self.parts[place].0.as_bytes());
                plan.steps[index].id = StepId(hasher.finish());
                changed.insert(index);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use strake_build::SecretValue;
    use strake_plan::{Mount, Origin, Run};

    use super::*;

    fn run(plan: &mut BuildPlan, parent: StepIndex, id: &str) -> StepIndex {
        let kind = MountKind::Secret { id: id.to_owned(), env: None, required: false, mode: 0o400, uid: 0, gid: 0 };
        let mount = Mount { target: "/s".to_owned(), kind, read_only: true };
        let run = Run {
            parent,
            args: vec!["x".to_owned()],
            mounts: vec![mount],
            ..serde_json::from_value(serde_json::json!({"parent": 0, "args": [], "env": [], "cwd": "/", "user": ""})).expect("a RUN")
        };
        plan.push(Op::Run(run), Origin::default(), "s")
    }

    fn id_of(plan: &BuildPlan, index: StepIndex) -> String {
        let Op::Run(run) = &plan.step(index).op else { panic!("a RUN") };
        let MountKind::Secret { id, .. } = &run.mounts[0].kind else { panic!("a secret") };
        id.clone()
    }

    #[test]
    fn a_part_sees_its_own_secrets() {
        let with = |value: &str| BuildOptions { secrets: BTreeMap::from([("t".to_owned(), SecretValue::new(value.into()))]), ..BuildOptions::default() };
        let (none, one, same, other) = (BuildOptions::default(), with("1"), with("1"), with("2"));
        let private = Private::new([("none", &none), ("one", &one), ("same", &same), ("other", &other)].into_iter());
        let keys: Vec<String> = private.all().secrets.into_keys().collect();
        assert_eq!(keys, ["t", "t of other"]);
        let mut plan = BuildPlan::default();
        let scratch = plan.push(Op::Scratch, Origin::default(), "s");
        let mut steps = Vec::new();
        for place in 0..4 {
            let from = plan.steps.len();
            let first = run(&mut plan, scratch, "t");
            let second = run(&mut plan, first, "unknown");
            private.mark(place, &mut plan, from);
            steps.push((first, second));
        }
        assert_eq!(id_of(&plan, steps[0].0), "t of none");
        assert_eq!(id_of(&plan, steps[1].0), "t");
        assert_eq!(steps[1], steps[2], "the same secret, the same steps");
        assert_ne!(steps[0].1, steps[1].1, "what stands on a step of one's own is one's own");
        // The same step with another value is the one that is there: values are no part of what a step is.
        assert_eq!(steps[3], steps[1]);
        assert_eq!(id_of(&plan, steps[1].1), "unknown");
    }
}
