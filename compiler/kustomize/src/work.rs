//! What a run carries along: the files, the findings, and what replaced what.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rayon::prelude::*;
use strake_source::{Diagnostic, FileId, Sources, Span};
use strake_yaml::{Document, Node};

use crate::layer::Layer;
use crate::merge::Replaced;
use crate::tree::{Entry, Tree, inside, join};

pub(crate) struct Work<'a> {
    pub(crate) tree: &'a Tree,
    pub(crate) sources: &'a mut Sources,
    pub(crate) diagnostics: &'a mut Vec<Diagnostic>,
    pub(crate) replaced: Replaced,
    files: BTreeMap<String, FileId>,
    /// Files that have been parsed and not been asked for yet.
    parsed: HashMap<FileId, Parsed>,
}

type Parsed = (Vec<Document>, Vec<Diagnostic>);

impl<'a> Work<'a> {
    pub(crate) fn new(tree: &'a Tree, sources: &'a mut Sources, diagnostics: &'a mut Vec<Diagnostic>) -> Self {
        Work { tree, sources, diagnostics, replaced: Vec::new(), files: BTreeMap::new(), parsed: HashMap::new() }
    }

    pub(crate) fn error(&mut self, code: &'static str, message: impl Into<String>, span: Span) {
        self.diagnostics.push(Diagnostic::error(code, message).at(span));
    }

    /// The path that a field names, when it lies inside the layer's directory: what a layer reads travels with it.
    pub(crate) fn path(&mut self, layer: &Layer, place: Span, name: &str) -> Option<String> {
        let path = join(&layer.directory, name);
        if inside(&layer.directory, &path) {
            return Some(path);
        }
        let finding = Diagnostic::error("kustomize-outside", format!("`{name}` is not inside the directory of {}", layer.file)).at(place);
        self.diagnostics.push(finding.help("move the file here, or make a base of its directory and list that under `resources`"));
        None
    }

    /// The file that a field names.
    pub(crate) fn file(&mut self, layer: &Layer, name: &Node) -> Option<FileId> {
        let path = self.path(layer, name.span, name.as_str()?)?;
        self.open(&path, name.span)
    }

    /// A file's text among the sources; a finding at `place` when it cannot be read.
    pub(crate) fn open(&mut self, path: &str, place: Span) -> Option<FileId> {
        if let Some(id) = self.files.get(path) {
            return Some(*id);
        }
        match self.tree.text(path) {
            Ok(text) => {
                let id = match self.tree.opened(path) {
                    Some(opened) => self.sources.add_sealed(path, text, &opened.secrets),
                    None => self.sources.add(path, text),
                };
                self.files.insert(path.to_owned(), id);
                Some(id)
            }
            Err(why) => {
                self.error("kustomize-missing-file", format!("`{path}`: {why}"), place);
                None
            }
        }
    }

    /// Parses the files that these names begin with on all cores, before they are asked for one by one. What is not a file ends the row: files keep the order in which
    /// they are opened.
    pub(crate) fn parse_ahead(&mut self, layer: &Layer, names: &[&Node]) {
        if !self.parsed.is_empty() {
            return;
        }
        let path = |name: &&Node| {
            let path = join(&layer.directory, name.as_str()?);
            (inside(&layer.directory, &path) && matches!(self.tree.get(&path), Some(Entry::File(_))) && self.tree.text(&path).is_ok())
                .then_some((path, name.span))
        };
        let row: Vec<(String, Span)> = names.iter().map_while(path).collect();
        if row.len() < 2 {
            return;
        }
        let files: BTreeSet<FileId> = row.iter().filter_map(|(path, span)| self.open(path, *span)).collect();
        let sources = &*self.sources;
        self.parsed = files.into_par_iter().map(|file| (file, strake_yaml::parse_file(sources, file))).collect();
    }

    /// The documents of a file.
    pub(crate) fn documents(&mut self, file: FileId) -> Vec<Node> {
        let (documents, findings) = self.parsed.remove(&file).unwrap_or_else(|| strake_yaml::parse_file(self.sources, file));
        for finding in findings {
            // A file that is read twice has its findings once.
            if !self.diagnostics.contains(&finding) {
                self.diagnostics.push(finding);
            }
        }
        documents.into_iter().map(|document| document.root).collect()
    }
}
