//! The place of a field inside an object.

use std::fmt;

/// One step into an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Segment {
    /// A field of a message.
    Field(String),
    /// A key of a map: `[app.kubernetes.io/name]`.
    Key(String),
    /// A place in a list.
    Index(usize),
}

/// The place of a field: `spec.containers[0].image`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FieldPath(pub Vec<Segment>);

impl FieldPath {
    /// The path of fields alone: `spec.replicas`. Names are split at dots.
    pub fn fields(dotted: &str) -> Self {
        FieldPath(dotted.split('.').filter(|name| !name.is_empty()).map(|name| Segment::Field(name.to_owned())).collect())
    }

    /// One field further.
    #[must_use]
    pub fn field(&self, name: &str) -> Self {
        self.child(Segment::Field(name.to_owned()))
    }

    /// One map key further.
    #[must_use]
    pub fn key(&self, name: &str) -> Self {
        self.child(Segment::Key(name.to_owned()))
    }

    /// One list item further.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        self.child(Segment::Index(index))
    }

    fn child(&self, segment: Segment) -> Self {
        let mut segments = Vec::with_capacity(self.0.len() + 1);
        segments.extend_from_slice(&self.0);
        segments.push(segment);
        FieldPath(segments)
    }

    /// RFC 6901 form: `/spec/containers/0/image`.
    pub fn pointer(&self) -> String {
        let mut out = String::new();
        for segment in &self.0 {
            out.push('/');
            match segment {
                Segment::Field(name) | Segment::Key(name) => out.push_str(&name.replace('~', "~0").replace('/', "~1")),
                Segment::Index(index) => out.push_str(&index.to_string()),
            }
        }
        out
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Field(name) if place == 0 => f.write_str(name)?,
                Segment::Field(name) => write!(f, ".{name}")?,
                Segment::Key(name) => write!(f, "[{name}]")?,
                Segment::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// A place on the stack of a walk: nothing is allocated until a finding needs a [`FieldPath`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct At<'a> {
    up: Option<&'a At<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    Root,
    Field(&'a str),
    Key(&'a str),
    Index(usize),
}

impl<'a> At<'a> {
    pub(crate) const fn root() -> At<'static> {
        At { up: None, step: Step::Root }
    }

    pub(crate) fn field(&'a self, name: &'a str) -> At<'a> {
        At { up: Some(self), step: Step::Field(name) }
    }

    pub(crate) fn key(&'a self, name: &'a str) -> At<'a> {
        At { up: Some(self), step: Step::Key(name) }
    }

    pub(crate) fn index(&'a self, index: usize) -> At<'a> {
        At { up: Some(self), step: Step::Index(index) }
    }

    pub(crate) fn path(&self) -> FieldPath {
        let mut path = self.up.map(At::path).unwrap_or_default();
        match self.step {
            Step::Root => {}
            Step::Field(name) => path.0.push(Segment::Field(name.to_owned())),
            Step::Key(name) => path.0.push(Segment::Key(name.to_owned())),
            Step::Index(index) => path.0.push(Segment::Index(index)),
        }
        path
    }
}
