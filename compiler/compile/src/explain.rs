//! The pages of `strake explain CODE`.

mod pages;

/// What a code means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// The code as diagnostics show it.
    pub code: &'static str,
    /// One line.
    pub title: &'static str,
    /// Why it matters and how to mend it.
    pub text: &'static str,
}

/// All pages, by code: those of the compiler's findings and those of the lint rules.
pub fn pages() -> &'static [Page] {
    static ALL: std::sync::OnceLock<Vec<Page>> = std::sync::OnceLock::new();
    ALL.get_or_init(|| {
        let rules = crate::lint::rules().into_iter().map(|rule| Page { code: rule.code, title: rule.title, text: rule.text });
        let mut all: Vec<Page> = pages::PAGES.iter().copied().chain(rules).collect();
        all.sort_by_key(|page| page.code);
        all
    })
}
