//! What an app takes without any builder: its programs in chroots on overlays of the base, its copies by `cp`, its stages at the same time. Whoever runs the same
//! programs can hardly be quicker, so this is what a target can ask for.

use std::fmt::Write as _;
use std::path::Path;

use strake_tests::World;

use crate::report::Report;
use crate::usage::timed;

/// Measures a Dockerfile whose stages are `FROM base` and whose copies name directories.
pub fn measure(world: &World, title: &str, dockerfile: &str, debian: &Path, context: &Path, report: &mut Report) {
    let dir = world.path("floor");
    let stages = stages(dockerfile);
    let mut prepare = format!("set -e\nmkdir -p {0}/base\ntar -xf {1} -C {0}/base\nmkdir -p {0}/base/work {0}/base/out\n", dir.display(), debian.display());
    for (stage, _) in &stages {
        let of = format!("{}/{stage}", dir.display());
        let _ = writeln!(
            prepare,
            "mkdir -p {of}/u {of}/w {of}/m\nmount -t overlay overlay -o lowerdir={}/base,upperdir={of}/u,workdir={of}/w {of}/m",
            dir.display()
        );
    }
    let prepared = world.run("sh", &["-c", &prepare]);
    if prepared.code != 0 {
        eprintln!("SKIPPED the floor of {title}: {}", prepared.stderr.trim());
        return;
    }
    let script = script(&stages, &dir, context);
    rustix::fs::sync();
    let usage = timed(world.command("sh").args(["-c", &script]).env("LC_ALL", "C"), &[]);
    report.add(title, "its programs alone (chroot, cp)", usage.seconds, "s", None);
    let unmount: String = stages.iter().map(|(stage, _)| format!("umount {}/{stage}/m; ", dir.display())).collect();
    world.run("sh", &["-c", &format!("{unmount} rm -rf {}", dir.display())]).ok();
}

/// The stages on the base, with their instructions.
fn stages(dockerfile: &str) -> Vec<(&str, Vec<&str>)> {
    let mut stages: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in dockerfile.lines().filter(|line| !line.is_empty()) {
        match line.strip_prefix("FROM base AS ") {
            Some(name) => stages.push((name, Vec::new())),
            None => stages.last_mut().into_iter().for_each(|(_, lines)| lines.push(line)),
        }
    }
    stages
}

/// All stages but the last at the same time, then the last.
fn script(stages: &[(&str, Vec<&str>)], dir: &Path, context: &Path) -> String {
    let mut text = "set -e\n".to_owned();
    let Some((last, before)) = stages.split_last() else { return text };
    let mut waits = String::new();
    for (number, stage) in before.iter().enumerate() {
        let _ = writeln!(text, "(\nset -e\n{}) & p{number}=$!", commands(stage, dir, context));
        let _ = writeln!(waits, "wait $p{number}");
    }
    text + &waits + &commands(last, dir, context)
}

fn commands((stage, lines): &(&str, Vec<&str>), dir: &Path, context: &Path) -> String {
    let (root, mut place, mut text) = (format!("{}/{stage}/m", dir.display()), "/", String::new());
    for line in lines {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match (word, rest.split_whitespace().collect::<Vec<_>>().as_slice()) {
            ("WORKDIR", [path]) => {
                place = path;
                let _ = writeln!(text, "mkdir -p {root}{path}");
            }
            ("RUN", _) => {
                let command = format!("cd {place}; {rest}").replace('\'', r"'\''");
                let _ = writeln!(text, "chroot {root} /bin/sh -c '{command}'");
            }
            ("COPY", [from, to]) => {
                let _ = writeln!(text, "mkdir -p {root}{to}\ncp -r {}/{from}/. {root}{to}", context.display());
            }
            ("COPY", [flag, from, to]) => {
                let of = format!("{}/{}/m", dir.display(), flag.trim_start_matches("--from="));
                let _ = writeln!(text, "mkdir -p {root}{to}\ncp -r {of}{from}. {root}{to}");
            }
            _ => {}
        }
    }
    text
}
