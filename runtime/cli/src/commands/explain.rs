//! strake explain

use strake_compile::lint::{ALLOW, Example, Level, rules};

use crate::args::Explain;
use crate::failure::Failure;
use crate::output::{say, table};

/// Shows the page of a code, or the list of codes.
pub fn run(args: &Explain) -> Result<(), Failure> {
    let pages = strake_compile::explain::pages();
    let Some(code) = &args.code else {
        let rows: Vec<Vec<&str>> = pages.iter().map(|page| vec![page.code, page.title]).collect();
        say(table(&["CODE", "MEANS"], &rows));
        return Ok(());
    };
    let Some(page) = pages.iter().find(|page| page.code.eq_ignore_ascii_case(code)) else {
        let hint = strake_source::nearest(code, pages.iter().map(|page| page.code)).map_or_else(|| ".".to_owned(), |near| format!(": did you mean {near}?"));
        return Err(Failure::text(format!("there is no code `{code}`{hint} `strake explain` lists them")));
    };
    say(format!("{}: {}\n\n{}", page.code, page.title, page.text));
    if let Some(rule) = rules().into_iter().find(|rule| rule.code == page.code) {
        let level = match rule.level {
            Level::Off => "off: ask for it with --lint",
            Level::Note => "a note, shown by `strake check`",
            Level::Warning => "a warning",
            Level::Error => "an error",
        };
        say(format!("\nBy itself it is {level}.\n\nReported:\n{}\nNot reported:\n{}", example(rule.bad), example(rule.good).trim_end()));
        say(format!("\nTo change its level: --lint {0}=off. To except one object, give it the annotation {ALLOW}: {0}", rule.code));
    }
    Ok(())
}

/// An example, set in, with a word about what it is a part of.
fn example(example: Example) -> String {
    let indented = |text: &str| text.lines().map(|line| format!("    {line}\n")).collect::<String>();
    match example {
        Example::Objects(text) => indented(text),
        Example::Container(text) => format!("  in a container:\n{}", indented(text)),
        Example::Pod(text) => format!("  in a pod's spec:\n{}", indented(text)),
        Example::PodImage(dockerfile, text) => format!("  in a Dockerfile:\n{}  in the pods that run its image:\n{}", indented(dockerfile), indented(text)),
        Example::Image(dockerfile, "") => format!("  in a Dockerfile:\n{}", indented(dockerfile)),
        Example::Image(dockerfile, text) => format!("  in a Dockerfile:\n{}  in a container of that image:\n{}", indented(dockerfile), indented(text)),
    }
}
