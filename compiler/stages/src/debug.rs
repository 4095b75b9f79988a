//! A Dockerfile cut off at an instruction, so that somebody can look around there.

use strake_dockerfile::{Command, CommandLine, Instruction, Run, Text};

use crate::{Request, StageGraph};

/// The place of an instruction to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The end of a stage, by its name.
    Stage(String),
    /// The instruction that stands on a line, from 1.
    Line(u32),
}

/// The request that ends at a place: its image's last step is a RUN, the one that stands there or, at any other instruction, one after it that does nothing.
///
/// # Errors
/// What is wrong with the place, for people.
pub fn cut_off(request: &Request, place: &Place) -> Result<Request, String> {
    let graph = StageGraph::build(request, &mut Vec::new()).ok_or("the Dockerfile has no such target stage")?;
    let (stage, last) = match place {
        Place::Stage(name) => {
            let lower = name.to_lowercase();
            let found = (0..graph.stages.len()).rev().find(|index| graph.label(*index) == lower);
            let index = found.ok_or_else(|| {
                let labels: Vec<String> = (0..graph.stages.len()).map(|index| graph.label(index)).collect();
                format!("there is no stage `{name}`: the stages are {}", labels.join(", "))
            })?;
            (index, graph.stages[index].end - 1)
        }
        Place::Line(line) => {
            let instructions = &request.file.instructions;
            let last = instructions.iter().rposition(|instruction| instruction.line <= *line).ok_or_else(|| format!("no instruction stands on line {line}"))?;
            let stage = graph.stages.iter().position(|stage| (stage.from..stage.end).contains(&last));
            (stage.ok_or_else(|| format!("line {line} stands in no stage"))?, last)
        }
    };
    let mut request = request.clone();
    request.file.instructions.truncate(last + 1);
    request.target = Some(stage.to_string());
    let instruction = &request.file.instructions[last];
    if !matches!(instruction.command, Command::Run(_)) {
        let nothing = looking_around(instruction);
        request.file.instructions.push(nothing);
    }
    Ok(request)
}

/// A RUN that stands for the shell.
fn looking_around(after: &Instruction) -> Instruction {
    let span = after.span;
    let run = Run {
        mounts: Vec::new(),
        network: None,
        security: None,
        devices: Vec::new(),
        command: CommandLine::Exec(vec![Text::new("true".to_owned(), span)]),
        heredocs: Vec::new(),
    };
    Instruction { command: Command::Run(run), keyword: Text::new("RUN".to_owned(), span), comments: Vec::new(), ..after.clone() }
}
