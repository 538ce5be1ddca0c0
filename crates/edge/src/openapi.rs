//! What is the same for every operation of the OpenAPI document, written once: the key, the errors, the schemas of
//! what many of them take.
//!
//! A handler documents what it answers when all is well; [`complete`] adds what can go wrong, which follows from the
//! operation's shape. An error that only one operation has stands at that operation. To add one that many have: a line in
//! `SHARED`, with the shape that has it.

use utoipa::openapi::header::Header;
use utoipa::openapi::path::{Operation, Parameter, ParameterIn, PathItem};
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaType, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Content, OpenApi, Ref, RefOr};

/// An error that several operations have.
struct Shared {
    status: u16,
    name: &'static str,
    description: &'static str,
    /// A header that comes with it, and what it says.
    header: Option<(&'static str, &'static str)>,
    applies: fn(path: &str, operation: &Operation) -> bool,
}

const RETRY_AFTER: (&str, &str) = ("Retry-After", "Seconds to wait before the request is sent again.");

const SHARED: [Shared; 12] = [
    shared(400, "Invalid", "A part of the request is not acceptable; `field` names it.", always),
    Shared {
        header: Some(("WWW-Authenticate", "`Bearer`.")),
        ..shared(401, "Unauthenticated", "The credential is missing, wrong or expired.", always)
    },
    shared(403, "Forbidden", "The credential may not do this, or not for that tenant.", always),
    shared(404, "NotFound", "What the address names is not there.", |path, _| path.contains('{')),
    shared(409, "Conflict", "The idempotency key was used for another request.", takes_key),
    shared(413, "TooLarge", "The body is larger than the server takes; send it in parts.", has_body),
    shared(415, "UnsupportedMediaType", "The content type of the body is not one of those listed.", has_body),
    Shared {
        header: Some(RETRY_AFTER),
        ..shared(429, "TooManyRequests", "The key or its tenant sends more than its limit.", always)
    },
    shared(500, "InternalError", "A fault of the server, which is logged under the request id.", always),
    Shared {
        header: Some(RETRY_AFTER),
        ..shared(503, "Unavailable", "The server, or an engine it needs, cannot answer now.", always)
    },
    shared(504, "TimedOut", "Not answered in time. A write may have been taken in nevertheless.", always),
    shared(507, "StorageFull", "The disk is full; nothing was taken in.", |_, operation| {
        has_body("", operation)
    }),
];

const fn shared(
    status: u16,
    name: &'static str,
    description: &'static str,
    applies: fn(&str, &Operation) -> bool,
) -> Shared {
    Shared { status, name, description, header: None, applies }
}

fn always(_: &str, _: &Operation) -> bool {
    true
}

fn has_body(_: &str, operation: &Operation) -> bool {
    operation.request_body.is_some()
}

fn takes_key(_: &str, operation: &Operation) -> bool {
    let is_key = |parameter: &Parameter| {
        parameter.parameter_in == ParameterIn::Header
            && parameter.name.eq_ignore_ascii_case("idempotency-key")
    };
    parameters(operation).any(is_key)
}

fn parameters(operation: &Operation) -> impl Iterator<Item = &Parameter> {
    operation.parameters.iter().flatten().filter_map(|parameter| match parameter {
        RefOr::T(parameter) => Some(parameter),
        RefOr::Ref(_) => None,
    })
}

/// Adds the key and the shared errors to a document whose paths are complete.
pub fn complete(document: &mut OpenApi) {
    let components = document.components.get_or_insert_default();
    let scheme = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
    components.security_schemes.insert("key".to_owned(), scheme.into());
    for error in SHARED {
        components.responses.insert(error.name.to_owned(), error.response().into());
    }
    document.security = Some(vec![SecurityRequirement::new("key", Vec::<String>::new())]);
    for (path, item) in &mut document.paths.paths {
        for operation in operations(item) {
            for error in SHARED {
                if (error.applies)(path, operation) {
                    let reference = || RefOr::Ref(Ref::from_response_name(error.name));
                    operation.responses.responses.entry(error.status.to_string()).or_insert_with(reference);
                }
            }
            operation.parameters.iter_mut().flatten().for_each(without_null);
        }
    }
}

impl Shared {
    fn response(&self) -> Response {
        let content = Content::new(Some(Ref::from_schema_name("Problem")));
        let mut response =
            ResponseBuilder::new().description(self.description).content("application/problem+json", content);
        if let Some((name, description)) = self.header {
            let mut header = Header::default();
            header.description = Some(description.to_owned());
            response = response.header(name, header);
        }
        response.build()
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.put, &mut item.post, &mut item.patch, &mut item.delete].into_iter().flatten()
}

/// A parameter that may be left out cannot be `null`: there is no way to write one in an address.
fn without_null(parameter: &mut RefOr<Parameter>) {
    let RefOr::T(Parameter { schema: Some(schema), .. }) = parameter else { return };
    let kind = match schema {
        RefOr::T(Schema::OneOf(options)) => {
            options.items.retain(|option| !is_null(option));
            if let [only] = options.items.as_slice() {
                *schema = only.clone();
            }
            return;
        }
        RefOr::T(Schema::Object(object)) => &mut object.schema_type,
        RefOr::T(Schema::Array(array)) => &mut array.schema_type,
        _ => return,
    };
    if let SchemaType::Array(kinds) = kind {
        kinds.retain(|kind| *kind != Type::Null);
        if let [only] = kinds.as_slice() {
            *kind = SchemaType::Type(only.clone());
        }
    }
}

fn is_null(schema: &RefOr<Schema>) -> bool {
    matches!(schema, RefOr::T(Schema::Object(object)) if object.schema_type == SchemaType::Type(Type::Null))
}

/// The schema of one of these texts.
#[must_use]
pub fn one_of(values: &[&str]) -> Schema {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some(values.iter().map(|value| (*value).to_owned())))
        .build()
        .into()
}

/// The schema of a permission.
#[must_use]
pub fn permission() -> Schema {
    one_of(&["read", "write", "admin"])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use utoipa::openapi::path::{HttpMethod, OperationBuilder, ParameterBuilder};
    use utoipa::openapi::request_body::RequestBody;
    use utoipa::openapi::{Info, Paths};

    use super::*;

    fn statuses(path: &str, operation: OperationBuilder) -> Vec<String> {
        let mut paths = Paths::new();
        paths.add_path_operation(path, vec![HttpMethod::Post], operation.build());
        let mut document = OpenApi::new(Info::new("t", "1"), paths);
        complete(&mut document);
        let operation = document.paths.get_path_operation(path, HttpMethod::Post).expect("is there");
        operation.responses.responses.keys().cloned().collect()
    }

    #[test]
    fn errors_follow_from_the_shape_of_an_operation() {
        let always = ["400", "401", "403", "429", "500", "503", "504"];
        assert_eq!(statuses("/a", OperationBuilder::new()), always);
        let of_path = statuses("/a/{id}", OperationBuilder::new());
        assert_eq!(of_path.iter().filter(|status| !always.contains(&status.as_str())).count(), 1);
        assert!(of_path.contains(&"404".to_owned()));
        let with_body = statuses("/a", OperationBuilder::new().request_body(Some(RequestBody::new())));
        assert!(["413", "415", "507"].iter().all(|status| with_body.contains(&(*status).to_owned())));
        let key = ParameterBuilder::new().name("Idempotency-Key").parameter_in(ParameterIn::Header);
        assert!(statuses("/a", OperationBuilder::new().parameter(key)).contains(&"409".to_owned()));
    }

    #[test]
    fn what_an_operation_says_itself_stays() {
        let own = BTreeMap::from([("400".to_owned(), RefOr::T(Response::new("its own")))]);
        let mut operation = OperationBuilder::new().build();
        operation.responses.responses.extend(own);
        let mut paths = Paths::new();
        paths.add_path_operation("/a", vec![HttpMethod::Get], operation);
        let mut document = OpenApi::new(Info::new("t", "1"), paths);
        complete(&mut document);
        let operation = document.paths.get_path_operation("/a", HttpMethod::Get).expect("is there");
        let RefOr::T(response) = &operation.responses.responses["400"] else { panic!("was replaced") };
        assert_eq!(response.description, "its own");
    }
}
