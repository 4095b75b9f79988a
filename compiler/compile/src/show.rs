//! The plan as a person reads it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use strake_plan::{BuildPlan, ChangeId, DeployPlan, Hook, Op, Phase, Plan, Wanted};
use strake_words::Reference;

/// The plan as text: images with their steps, then objects in order with what they wait for.
pub fn render(plan: &Plan) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = build(&plan.build, &mut out);
    let _ = deploy(plan, &mut out);
    out
}

fn plural(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

fn familiar(tag: &str) -> String {
    Reference::parse(tag).map_or_else(|_| tag.to_owned(), |reference| reference.familiar())
}

fn build(build: &BuildPlan, out: &mut String) -> std::fmt::Result {
    if build.images.is_empty() {
        return Ok(());
    }
    writeln!(out, "Build {} in {}", plural(build.images.len(), "image"), plural(build.steps.len(), "step"))?;
    for image in &build.images {
        let tags: Vec<String> = image.tags.iter().map(|tag| familiar(tag)).collect();
        writeln!(out, "  {}  from {}", tags.join(", "), image.origin.file)?;
        for index in chain(build, image.step.0) {
            let step = &build.steps[index];
            let from = step.op.inputs().into_iter().filter(|input| Some(*input) != step.op.parent());
            let from: Vec<String> = from.map(|input| build.steps[input.0].stage.clone()).collect();
            let from = if from.is_empty() { String::new() } else { format!("  (from {})", from.join(", ")) };
            let text = if step.origin.text.is_empty() { op_name(&step.op) } else { &step.origin.text };
            writeln!(out, "    {:>3}  {}  {}{from}", step.origin.line, step.id, shortened(text))?;
        }
    }
    Ok(())
}

/// The steps that lead to a step, in order: those of other stages before the one that uses them.
fn chain(build: &BuildPlan, last: usize) -> Vec<usize> {
    let mut wanted = vec![false; build.steps.len()];
    wanted[last] = true;
    for index in (0..=last).rev().filter(|index| wanted.get(*index).copied().unwrap_or(false)).collect::<Vec<_>>() {
        mark(build, index, &mut wanted);
    }
    (0..wanted.len()).filter(|index| wanted[*index]).collect()
}

fn mark(build: &BuildPlan, index: usize, wanted: &mut [bool]) {
    for input in build.steps[index].op.inputs() {
        if !wanted[input.0] {
            wanted[input.0] = true;
            mark(build, input.0, wanted);
        }
    }
}

fn op_name(op: &Op) -> &'static str {
    match op {
        Op::Scratch => "FROM scratch",
        Op::Base { .. } => "FROM",
        Op::Run(_) => "RUN",
        Op::Copy(_) => "COPY",
        Op::Mkdir(_) => "WORKDIR",
    }
}

fn shortened(text: &str) -> String {
    const MOST: usize = 100;
    if text.chars().count() <= MOST { text.to_owned() } else { text.chars().take(MOST - 1).chain(['…']).collect() }
}

fn deploy(plan: &Plan, out: &mut String) -> std::fmt::Result {
    let deploy = &plan.deploy;
    if deploy.changes.is_empty() {
        return Ok(());
    }
    if !out.is_empty() {
        writeln!(out)?;
    }
    writeln!(out, "Apply {} as set `{}`", plural(deploy.changes.len(), "object"), deploy.set)?;
    let images = images_by_change(plan);
    let width = deploy.changes.iter().map(|change| change.id.to_string().chars().count()).max().unwrap_or(0);
    let staged = deploy.changes.iter().any(|change| change.stage > 0);
    for (index, change) in deploy.changes.iter().enumerate() {
        if staged && (index == 0 || deploy.changes[index - 1].stage != change.stage) {
            writeln!(out, " stage {}", change.stage + 1)?;
        }
        let mut notes = vec![change.origin.clone()];
        if !change.after.is_empty() || !change.external.is_empty() {
            let state = |state: Wanted| if state == Wanted::Present { String::new() } else { format!(" ({})", state.word()) };
            let inside = change.after.iter().map(|edge| format!("{}{}", name(deploy, edge.change), state(edge.state)));
            let outside = change.external.iter().map(|external| format!("{}{} outside of the set", external.id, state(external.state)));
            notes.push(format!("after {}", inside.chain(outside).collect::<Vec<_>>().join(", ")));
        }
        if let Some(hook) = &change.hook {
            notes.push(hook_note(*hook).to_owned());
        }
        if let Some(built) = images.get(&index) {
            notes.push(format!("runs {}", built.join(", ")));
        }
        writeln!(out, "  {:>3}  {:width$}  {}", index + 1, change.id.to_string(), notes.join("; "))?;
    }
    if !deploy.occasions.is_empty() {
        writeln!(out, " at other occasions")?;
    }
    for hook in &deploy.occasions {
        writeln!(out, "       {:width$}  {}; hook, run at {}", hook.change.id.to_string(), hook.change.origin, hook.when.word())?;
    }
    Ok(())
}

fn hook_note(hook: Hook) -> &'static str {
    match hook.phase {
        Phase::Before => "hook, run before the rest",
        Phase::Main => "hook, run with the rest",
        Phase::After => "hook, run after the rest",
    }
}

fn name(deploy: &DeployPlan, id: ChangeId) -> String {
    deploy.changes.get(id.0).map_or_else(|| format!("#{}", id.0 + 1), |change| format!("{}/{}", change.id.kind.to_lowercase(), change.id.name))
}

fn images_by_change(plan: &Plan) -> BTreeMap<usize, Vec<String>> {
    let mut images: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for edge in &plan.deploy.images {
        let tag = plan.build.images.get(edge.image).and_then(|image| image.tags.first());
        let shown = tag.map_or_else(|| format!("image {}", edge.image), |tag| familiar(tag));
        let list = images.entry(edge.change.0).or_default();
        if !list.contains(&shown) {
            list.push(shown);
        }
    }
    images
}
