//! Pages of a search. A token holds the place of the last subject of its page and a hash of what was asked, so that it
//! goes on exactly there and with nothing else.

use std::cmp::Ordering;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kernel::{Error, Result};
use serde::{Deserialize, Serialize};

use super::order::Key;
use super::{Filter, Order, Subject, invalid};

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Place {
    signature: String,
    keys: Vec<Key>,
    id: String,
}

/// One page.
#[derive(Debug)]
pub struct Page<S> {
    /// What is on it, in order.
    pub subjects: Vec<S>,
    /// Asks for the next; none at the end.
    pub next: Option<String>,
}

/// Collects one page from subjects in any order, and holds little more than the page while it does.
#[derive(Debug)]
pub struct Pager<S> {
    filter: Filter,
    order: Order,
    signature: String,
    after: Option<Place>,
    limit: usize,
    found: Vec<(Vec<Key>, S)>,
}

impl<S: Subject> Pager<S> {
    /// A page of at most `limit`. `asked` is what makes this search differ from others besides its filter and order.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` for a token of another search.
    pub fn new(filter: Filter, order: Order, asked: &str, token: Option<&str>, limit: usize) -> Result<Self> {
        let text = format!("{asked} {filter:?} {order:?}");
        let signature = blake3::hash(text.as_bytes()).to_hex()[..16].to_owned();
        let after =
            token.filter(|token| !token.is_empty()).map(|token| place(token, &signature)).transpose()?;
        Ok(Self { filter, order, signature, after, limit, found: Vec::new() })
    }

    /// Takes a subject into account.
    pub fn offer(&mut self, subject: S) {
        if !self.filter.admits(&subject) {
            return;
        }
        let keys = self.order.keys(&subject);
        if let Some(after) = &self.after
            && self.order.compare((&keys, subject.id()), (&after.keys, &after.id)) != Ordering::Greater
        {
            return;
        }
        self.found.push((keys, subject));
        if self.found.len() > 2 * self.limit + 1_000 {
            self.cut();
        }
    }

    /// Sorts, and keeps the page and one more, which says that there is a next.
    fn cut(&mut self) {
        let order = &self.order;
        self.found.sort_by(|left, right| order.compare((&left.0, left.1.id()), (&right.0, right.1.id())));
        self.found.truncate(self.limit + 1);
    }

    /// The page.
    ///
    /// # Errors
    /// `INTERNAL_ERROR` where its end cannot be written down.
    pub fn page(mut self) -> Result<Page<S>> {
        self.cut();
        let more = self.found.len() > self.limit;
        self.found.truncate(self.limit);
        let next = match self.found.last() {
            Some((keys, subject)) if more => {
                let place =
                    Place { signature: self.signature, keys: keys.clone(), id: subject.id().to_owned() };
                Some(URL_SAFE_NO_PAD.encode(serde_json::to_vec(&place).map_err(Error::internal)?))
            }
            _ => None,
        };
        Ok(Page { subjects: self.found.into_iter().map(|(_, subject)| subject).collect(), next })
    }
}

fn place(token: &str, signature: &str) -> Result<Place> {
    let wrong = || invalid("the page token is not one of this search").with_field("page_token");
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| wrong())?;
    let place: Place = serde_json::from_slice(&bytes).map_err(|_| wrong())?;
    if place.signature == signature { Ok(place) } else { Err(wrong()) }
}
