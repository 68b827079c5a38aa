use std::{borrow::Cow, fmt, iter, sync::Arc};

/// Whom a request is charged to: somebody, and whatever they are part of.
///
/// A parent, such as a team or an organisation, has limits of its own. What its members use counts for it too, and all
/// must leave enough.
///
/// A store keeps all that is under one outermost parent together, and knows each by its name there: who moves from one
/// team of an organisation to another takes along what they have used, and who moves to another organisation begins
/// anew. So a team must not be called like a person of the same organisation.
///
/// A subject without parents is its name, and cloning it is cheap in any case.
///
/// # Examples
///
/// ```
/// use tower_quota::Subject;
///
/// let alice = Subject::new("alice").under("research").under("example.com");
/// assert_eq!(&**alice.name(), "alice");
/// assert_eq!(alice.parents().count(), 2);
/// assert_ne!(alice, Subject::new("alice"));
/// ```
#[derive(Clone, Eq, Hash, PartialEq)]
pub struct Subject {
    name: Arc<str>,
    above: Option<Arc<[Arc<str>]>>,
}

// === impl Subject ===

impl Subject {
    /// A subject that is part of nothing.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self {
            name: name.into(),
            above: None,
        }
    }

    /// The same subject as a part of `parent`, outside of those that it is a part of already.
    #[must_use]
    pub fn under(self, parent: impl Into<Arc<str>>) -> Self {
        let above = self.parents().cloned().chain([parent.into()]).collect();
        Self {
            name: self.name,
            above: Some(above),
        }
    }

    /// Its own name.
    #[must_use]
    pub const fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// What it is part of, the innermost first.
    #[must_use]
    pub fn parents(&self) -> impl ExactSizeIterator<Item = &Arc<str>> {
        self.above.as_deref().unwrap_or_default().iter()
    }

    /// The subject and then each of its parents, as subjects of their own.
    pub fn chain(&self) -> impl Iterator<Item = Self> + use<'_> {
        let parents = (0..self.parents().len()).map(|n| {
            let above = self.above.as_deref().unwrap_or_default();
            let (parent, outer) = above.get(n..).and_then(<[Arc<str>]>::split_first).unzip();
            let parent = parent.cloned().unwrap_or_default();
            let outer = outer.unwrap_or_default().iter().cloned();
            outer.fold(Self::new(parent), Self::under)
        });
        iter::once(self.clone()).chain(parents)
    }

    /// The outermost parent, or the subject itself: everything below it is kept together.
    #[must_use]
    pub fn root(&self) -> &Arc<str> {
        self.parents().last().unwrap_or(&self.name)
    }

    /// Whether it is part of nothing.
    #[cfg(any(feature = "memory", feature = "postgres", feature = "redis"))]
    pub(crate) const fn is_root(&self) -> bool {
        self.above.is_none()
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Subject(")?;
        f.debug_list()
            .entry(&self.name)
            .entries(self.parents())
            .finish()?;
        f.write_str(")")
    }
}

impl From<Arc<str>> for Subject {
    fn from(name: Arc<str>) -> Self {
        Self::new(name)
    }
}

impl From<&Arc<str>> for Subject {
    fn from(name: &Arc<str>) -> Self {
        Self::new(Arc::clone(name))
    }
}

impl From<&str> for Subject {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

impl From<String> for Subject {
    fn from(name: String) -> Self {
        Self::new(name)
    }
}

impl From<Cow<'_, str>> for Subject {
    fn from(name: Cow<'_, str>) -> Self {
        Self::new(&*name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_goes_from_the_inside_out() {
        let alice = Subject::new("alice").under("team").under("org");
        let chain: Vec<_> = alice.chain().collect();
        let lawful = [
            alice.clone(),
            Subject::new("team").under("org"),
            Subject::new("org"),
        ];
        assert_eq!(chain, lawful);
        assert!(chain.iter().all(|subject| &**subject.root() == "org"));
        assert_eq!(Subject::new("bob").chain().count(), 1);
    }
}
