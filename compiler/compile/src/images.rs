//! Which Dockerfile builds which image: see the crate's documentation for the rules.

use std::collections::{BTreeMap, BTreeSet};

use strake_deploy::ImageUse;
use strake_source::{Diagnostic, FileId, Span};
use strake_words::Reference;

/// A Dockerfile as the rules see it.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) file: FileId,
    /// `# image: NAME`, with its place.
    pub(crate) explicit: Option<(String, Span)>,
    /// The name that its path gives it.
    pub(crate) name: String,
}

/// The images of each Dockerfile, as the manifests write them (or, without manifests, its own name); none for one that is not used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Assignment {
    pub(crate) images: Vec<BTreeSet<String>>,
}

/// The name after `# image:` in the comments before the first instruction.
pub(crate) fn explicit_name(file: FileId, text: &str) -> Option<(String, Span)> {
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let trimmed = line.trim();
        let Some(comment) = trimmed.strip_prefix('#') else {
            if trimmed.is_empty() {
                start += line.len();
                continue;
            }
            return None;
        };
        if let Some(name) = comment.trim_start().strip_prefix("image:").map(str::trim).filter(|name| !name.is_empty()) {
            let at = start + line.find(name).unwrap_or(0);
            return Some((name.to_owned(), Span::new(file, at, at + name.len())));
        }
        start += line.len();
    }
    None
}

/// The name that a path gives: `web.Dockerfile`, `Dockerfile.web`, `web/Dockerfile`; for a file in the current directory its context's name.
pub(crate) fn path_name(path: &str, context: &str) -> String {
    let (folder, file) = path.rsplit_once('/').unwrap_or(("", path));
    let lower = file.to_lowercase();
    let prefix = ["dockerfile.", "containerfile."].iter().find_map(|prefix| lower.starts_with(prefix).then(|| &file[prefix.len()..]));
    let suffix = [".dockerfile", ".containerfile"].iter().find_map(|suffix| lower.ends_with(suffix).then(|| &file[..file.len() - suffix.len()]));
    let last = |path: &str| path.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned();
    match prefix.or(suffix) {
        Some(name) if !name.is_empty() => name.to_lowercase(),
        _ => match last(folder).as_str() {
            "" | "." | ".." => last(context).to_lowercase(),
            name => name.to_lowercase(),
        },
    }
}

/// Applies the rules.
pub(crate) fn assign(candidates: &[Candidate], uses: &[ImageUse], diagnostics: &mut Vec<Diagnostic>) -> Assignment {
    let mut assignment = Assignment { images: vec![BTreeSet::new(); candidates.len()] };
    let mut used: BTreeMap<&str, (Reference, Span)> = BTreeMap::new();
    for image in uses {
        if used.contains_key(image.image.as_str()) {
            continue;
        }
        match Reference::parse(&image.image) {
            Ok(reference) => {
                used.entry(&image.image).or_insert((reference, image.span));
            }
            Err(error) => diagnostics.push(Diagnostic::error("invalid-image", error.to_string()).at(image.span)),
        }
    }
    let explicit: Vec<Option<Reference>> = candidates.iter().map(|candidate| explicit_reference(candidate, diagnostics)).collect();
    for (image, (reference, span)) in used.iter().filter(|(_, (reference, _))| reference.digest.is_none()) {
        let said = claims(candidates, |index| explicit[index].as_ref().is_some_and(|said| same_image(said, reference)));
        let last = reference.path.rsplit('/').next().unwrap_or_default();
        let named = || claims(candidates, |index| candidates[index].explicit.is_none() && candidates[index].name == last);
        let claims = if said.is_empty() { named() } else { said };
        match claims[..] {
            [] => {}
            [only] => {
                assignment.images[only].insert((*image).to_owned());
            }
            _ => diagnostics.push(ambiguous(image, *span, candidates, &claims)),
        }
    }
    single(candidates, &used, &mut assignment);
    if uses.is_empty() {
        without_manifests(candidates, &mut assignment);
    }
    assignment
}

fn claims(candidates: &[Candidate], claim: impl Fn(usize) -> bool) -> Vec<usize> {
    (0..candidates.len()).filter(|index| claim(*index)).collect()
}

fn explicit_reference(candidate: &Candidate, diagnostics: &mut Vec<Diagnostic>) -> Option<Reference> {
    let (name, span) = candidate.explicit.as_ref()?;
    let parsed = Reference::parse(name);
    if let Err(error) = &parsed {
        diagnostics.push(Diagnostic::error("invalid-image", error.to_string()).at(*span));
    }
    parsed.ok()
}

/// The name in a Dockerfile means all tags unless it has one itself.
fn same_image(said: &Reference, used: &Reference) -> bool {
    said.repository() == used.repository() && (said.tag.is_none() || said.tag == used.clone().with_default_tag().tag)
}

fn ambiguous(image: &str, span: Span, candidates: &[Candidate], claims: &[usize]) -> Diagnostic {
    let finding = Diagnostic::error("ambiguous-image", format!("more than one Dockerfile builds `{image}`")).at(span);
    let labelled = claims.iter().fold(finding, |finding, index| {
        let candidate = &candidates[*index];
        let span = candidate.explicit.as_ref().map_or(Span::new(candidate.file, 0, 0), |(_, span)| *span);
        finding.related(span, "this one does")
    });
    labelled.help(format!("write `# image: {image}` into the first line of the one that is meant, and another name into the others"))
}

/// Rule 3.
fn single(candidates: &[Candidate], used: &BTreeMap<&str, (Reference, Span)>, assignment: &mut Assignment) {
    let [candidate] = candidates else { return };
    if candidate.explicit.is_some() || !assignment.images[0].is_empty() {
        return;
    }
    let local = |image: &str, reference: &Reference| {
        let has_registry = image.split_once('/').is_some_and(|(first, _)| first.contains(['.', ':']) || first == "localhost");
        !has_registry && reference.digest.is_none()
    };
    let local: Vec<&&str> = used.iter().filter(|(image, (reference, _))| local(image, reference)).map(|(image, _)| image).collect();
    if let [image] = local[..] {
        assignment.images[0].insert((*image).to_owned());
    }
}

/// A directory of Dockerfiles alone: each is built.
fn without_manifests(candidates: &[Candidate], assignment: &mut Assignment) {
    for (index, candidate) in candidates.iter().enumerate() {
        let name = candidate.explicit.as_ref().map_or(&candidate.name, |(name, _)| name);
        if Reference::parse(name).is_ok() {
            assignment.images[index].insert(name.clone());
        }
    }
}
