//! Whether a version may take an alias: it is loaded before the alias moves, and a new champion has to take what the one before
//! it takes, because callers do not change with it.
//!
//! It refuses what cannot be served, and a champion that would refuse its callers. Who its callers are is read from what answers
//! them, which is a version before the champion where that one cannot be loaded. It has nothing to say of models that nothing
//! answers for and whose format no engine of this process reads, because those are only kept; of a way back; and of versions
//! whose tag [`TRIAL_TAG`] says `off`.

use std::sync::{Arc, Weak};

use async_trait::async_trait;
use kernel::{Error, Result, Scope};
use models::registered::{CHAMPION, Gate, RegisteredModel, RegisteredVersion};
use tracing::warn;

use crate::loading::is_lasting;
use crate::model::{Signature, TensorSpec, unusable};
use crate::{Inner, Runtime};

/// The tag of a version that says `off` where it may be promoted untried.
pub const TRIAL_TAG: &str = "runtime.trial";

/// A runtime that looks at what is promoted. It does not keep the runtime alive.
#[derive(Debug)]
struct Trying(Weak<Inner>);

impl Runtime {
    /// Has every promotion of this process tried first.
    pub fn try_promotions(&self) {
        self.models().guard(Arc::new(Trying(Arc::downgrade(&self.0))));
    }
}

#[async_trait]
impl Gate for Trying {
    async fn check(
        &self,
        scope: &Scope,
        model: &RegisteredModel,
        version: &RegisteredVersion,
        alias: &str,
    ) -> Result<()> {
        let Some(runtime) = self.0.upgrade().map(Runtime) else { return Ok(()) };
        if version.tags.get(TRIAL_TAG).is_some_and(|value| value == "off") {
            return Ok(());
        }
        if let Err(unread) = runtime.engine(version) {
            return runtime.check_is_only_kept(scope, (model, version), alias, unread).await;
        }
        let untried = |error: &Error| {
            warn!(model = %model.name, version = version.version, error = %error.chain(),
                "a version is promoted untried, because a version of its model cannot be loaded for now");
            Ok(())
        };
        let signature = match runtime.load(scope, model, version.version, None).await {
            // Where memory has room for one version, the one that answers must find it.
            Ok(found) => found.model.signature().clone(),
            Err(error) if is_lasting(&error) => return Err(refused(error.message()).with_source(error)),
            Err(error) => return untried(&error),
        };
        if alias != CHAMPION || model.aliases.get(CHAMPION) == Some(&version.version) {
            return Ok(());
        }
        let before = match runtime.answering(scope, model, CHAMPION).await {
            Ok(Some(before)) => before,
            // What nothing answers for has no callers.
            Ok(None) => return Ok(()),
            Err(error) => return untried(&error),
        };
        match difference(before.model.signature(), &signature) {
            None => Ok(()),
            Some(what) => Err(refused(&format!(
                "version {} of `{}` is no successor of version {}, which answers for `{CHAMPION}`: {what}",
                version.version, model.name, before.place.version
            ))),
        }
    }
}

impl Runtime {
    /// Refuses a version that no engine reads where another version answers for the alias, or for `champion`. A model of which
    /// nothing is served is only kept here, and its aliases are free.
    async fn check_is_only_kept(
        &self,
        scope: &Scope,
        (model, version): (&RegisteredModel, &RegisteredVersion),
        alias: &str,
        unread: Error,
    ) -> Result<()> {
        let others = Some(alias).filter(|alias| *alias != CHAMPION);
        for alias in others.into_iter().chain([CHAMPION]) {
            if let Some(before) = self.answering(scope, model, alias).await? {
                let what = format!(
                    "version {} of `{}` cannot be served, and version {} answers for `{alias}`: {}",
                    version.version,
                    model.name,
                    before.place.version,
                    unread.message()
                );
                return Err(refused(&what).with_source(unread));
            }
        }
        Ok(())
    }
}

fn refused(what: &str) -> Error {
    unusable(format!(
        "{what}; register a good version and promote that one; only to promote this one all the same, set its tag \
         `{TRIAL_TAG}` to `off`"
    ))
    .with_field("version")
}

/// What callers of the one would miss in the other.
fn difference(before: &Signature, after: &Signature) -> Option<String> {
    let named = |specs: &[TensorSpec], name: &str| specs.iter().find(|spec| spec.name == name).cloned();
    if before.takes_blanks && !after.takes_blanks {
        return Some("its inputs may not lack values".to_owned());
    }
    for old in &before.inputs {
        let Some(new) = named(&after.inputs, &old.name) else {
            return Some(format!("it takes no input `{}`", old.name));
        };
        if new.kind != old.kind {
            return Some(format!("its input `{}` is {}, not {}", old.name, new.kind.name(), old.kind.name()));
        }
        let takes = |(new, old): (&Option<usize>, &Option<usize>)| new.is_none() || new == old;
        if new.shape.len() != old.shape.len() || !new.shape.iter().zip(&old.shape).all(takes) {
            let (new_shape, old_shape) = (new.wire_shape(), old.wire_shape());
            return Some(format!("its input `{}` is of {new_shape:?}, not of {old_shape:?}", old.name));
        }
    }
    if let Some(new) = after.inputs.iter().find(|new| named(&before.inputs, &new.name).is_none()) {
        return Some(format!("it wants an input `{}` too", new.name));
    }
    let lost = before.outputs.iter().find(|old| {
        named(&after.outputs, &old.name)
            .is_none_or(|new| new.kind != old.kind || new.shape.len() != old.shape.len())
    });
    lost.map(|old| format!("it gives no output `{}` of the same kind", old.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::DataType;

    #[test]
    fn a_successor_takes_what_was_taken() {
        let spec =
            |name: &str, kind, width| TensorSpec { name: name.to_owned(), kind, shape: vec![None, width] };
        let of = |inputs: Vec<TensorSpec>, outputs: Vec<TensorSpec>| Signature {
            inputs,
            outputs,
            has_batch_axis: true,
            takes_blanks: false,
        };
        let x = || spec("x", DataType::Fp32, Some(2));
        let y = || spec("y", DataType::Fp32, Some(1));
        let before = of(vec![x()], vec![y()]);
        let wider = spec("x", DataType::Fp32, None);
        for fine in [before.clone(), of(vec![wider.clone()], vec![y(), spec("more", DataType::Int64, None)])]
        {
            assert_eq!(difference(&before, &fine), None);
        }
        for (other, what) in [
            (of(vec![spec("z", DataType::Fp32, Some(3))], vec![y()]), "no input `x`"),
            (of(vec![spec("x", DataType::Int64, Some(2))], vec![y()]), "is INT64, not FP32"),
            (of(vec![spec("x", DataType::Fp32, Some(3))], vec![y()]), "[-1, 3], not of [-1, 2]"),
            (of(vec![x(), spec("z", DataType::Fp32, None)], vec![y()]), "an input `z` too"),
            (of(vec![x()], vec![spec("p", DataType::Fp32, Some(1))]), "no output `y`"),
        ] {
            let found = difference(&before, &other).unwrap();
            assert!(found.contains(what), "{found}");
        }
        let blanks = Signature { takes_blanks: true, ..before.clone() };
        assert_eq!(difference(&before, &blanks), None);
        assert!(difference(&blanks, &before).unwrap().contains("may not lack values"));
        let any = of(vec![wider], vec![y()]);
        assert!(difference(&any, &before).unwrap().contains("[-1, 2], not of [-1, -1]"));
    }
}
