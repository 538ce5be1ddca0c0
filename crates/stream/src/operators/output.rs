//! Writes items to a topic.

use store::Topic;

use crate::flow::guard;
use crate::operator::{Emit, Operator, Part, Site};
use crate::{Context, Emission, Rejection};

/// Writes each item to a topic and passes it on.
#[derive(Debug)]
pub struct To<F> {
    site: Site,
    topic: Topic,
    encode: F,
}

impl<F> To<F> {
    pub(crate) fn new(name: &'static str, topic: Topic, encode: F) -> Self {
        Self { site: Site { output: Some(topic.clone()), ..Site::new(name) }, topic, encode }
    }
}

impl<T, F> Operator<T> for To<F>
where
    F: FnMut(&T) -> Result<Emission, Rejection> + Send,
{
    type Out = T;

    fn push(&mut self, item: T, context: &mut Context, emit: &mut Emit<'_, T>) {
        self.site.counts.taken += 1;
        let encoded = guard(|| (self.encode)(&item));
        match encoded.and_then(|emission| context.send(&self.topic, self.site.name, emission)) {
            Ok(()) => {
                self.site.counts.passed += 1;
                context.arrive();
                emit(item, context);
            }
            Err(rejection) => {
                self.site.counts.rejected += 1;
                context.reject(self.site.name, &rejection);
            }
        }
    }

    fn visit(&mut self, visitor: &mut dyn FnMut(Part<'_>)) {
        visitor(Part { site: &mut self.site, state: None });
    }
}
