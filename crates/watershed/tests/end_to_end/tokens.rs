//! Tokens of an identity provider: which pass, for which tenant, with which permission; keys that change.

use std::io::{Read, Write};
use std::net::TcpListener;

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, get_current_timestamp};
use rcgen::KeyPair;
use serde_json::{Value, json};

use crate::support::{Home, Server, refused, wait};

const SECRET: &str = "a-shared-secret-of-thirty-two-bytes";
/// A public RSA key, and tokens that its private half, which nobody has any more, signed: one that is fine until the year
/// 2100, and none else.
const RSA: &str = r#"{"kty":"RSA","kid":"rsa","alg":"RS256","use":"sig","e":"AQAB","n":"vOoYO-mGhKf_IzqkSPCHHw9FwcQQCinbKok7-FVEfeYhc0qBV-Fh_ZHpgHAIlmH5kzoJswUmZNAoVrxp9tCvhJcWLWphG-kSA5TsUtQHtwT1IWQLf-DAkV8hHvpm-uGcFJ8CvIB55rat7HxvYVG_pT8LGGxa8SR4oxZ115nHi13NdZL6JNX7KqgNjD__-QpYRnpGpA1e99l016Wcl-sILYyC4aP7foQT-yl1kRxyREm2vAsjrZPJ5WBvXRK49V8kDcSD5WNlnvxnxmoxPhifIaZhkEPgzpxq7CDvgCSrbLyMmcQUs0arr2VuyNjcBLgL2TmjWVWxr38esyx7XcTrdQ"}"#;
const RSA_TOKEN: &str = concat!(
    "eyJhbGciOiJSUzI1NiIsImtpZCI6InJzYSJ9.eyJpc3MiOiJodHRwczovL2lkLmV4YW1wbGUiLCJhdWQiOiJ3YXRlcnNoZWQiLCJ",
    "zdWIiOiJhZGEiLCJleHAiOjQxMDI0NDQ4MDAsInRlbmFudF9pZCI6InNob3AiLCJyb2xlcyI6WyJ3cml0ZSJdfQ.iYDBDT_7Cows",
    "S2OlkrQFQEseLlW9CcFhbmGmm669iyl5wNOaZZvjK70DSryn292XMBhy9bZ3MvcItCYrTWl6A7-jUWBg8Cvv_ZfPX0-myC-va5X-",
    "kqTL06csmvVVFCLnYoSZxktG5ymUpERuFVDJYve7HeJpHrzCMjrJM49IoKccpw8tEEx-bXhYmqonyVlLSpHuFDHzIx1LzoEREH4l",
    "GqOanoO4orKagOzb5-qnAcGsVrxMaU-xk1LurkBhFIhrbTVszg5YuEG_H-Lz_GJRbJSljdSSQsGy8NLoFBNTxIXlP_hS3X77zk1f",
    "wsFwNOrXXJIzLH0Ee49rSJJZbS9MnQ",
);

/// A key pair of a provider.
struct Pair {
    id: &'static str,
    signing: EncodingKey,
}

impl Pair {
    fn new(id: &'static str) -> Self {
        Self { id, signing: EncodingKey::from_ec_der(&KeyPair::generate().unwrap().serialize_der()) }
    }

    fn published(&self) -> Value {
        let mut key =
            serde_json::to_value(Jwk::from_encoding_key(&self.signing, Algorithm::ES256).unwrap()).unwrap();
        key["kid"] = self.id.into();
        key
    }

    fn token(&self, id: &str) -> String {
        let header = Header { kid: Some(id.to_owned()), ..Header::new(Algorithm::ES256) };
        encode(&header, &claims(&json!({})), &self.signing).unwrap()
    }
}

fn jwks(keys: &[Value]) -> String {
    json!({"keys": keys}).to_string()
}

/// Good claims with some changed; null leaves one out.
fn claims(change: &Value) -> Value {
    let mut claims = json!({"iss": "https://id.example", "aud": "watershed", "sub": "ada", "tenant_id": "shop",
        "exp": get_current_timestamp() + 600, "roles": ["write"]});
    for (name, value) in change.as_object().unwrap() {
        match value {
            Value::Null => claims.as_object_mut().unwrap().remove(name),
            value => claims.as_object_mut().unwrap().insert(name.clone(), value.clone()),
        };
    }
    claims
}

fn signed_as(algorithm: Algorithm, id: Option<&str>, change: &Value, secret: &[u8]) -> String {
    let header = Header { kid: id.map(str::to_owned), ..Header::new(algorithm) };
    encode(&header, &claims(change), &EncodingKey::from_secret(secret)).unwrap()
}

fn signed(change: &Value) -> String {
    signed_as(Algorithm::HS256, None, change, SECRET.as_bytes())
}

fn provider(place: &str) -> Home {
    let settings = format!("{}[auth.jwt]\n{place}\n", crate::support::SETTINGS);
    Home::with_settings(&settings)
        .environment("JWT_ISSUER", "https://id.example")
        .environment("JWT_AUDIENCE", "watershed")
}

/// A server that takes tokens under the secret and under these keys.
fn server(keys: &[Value]) -> Server {
    let home = provider("jwks_file = \"keys.json\"").environment("JWT_SECRET", SECRET);
    home.write("keys.json", jwks(keys));
    home.serve()
}

fn ask(server: &Server, token: &str, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let body = body.map(Value::to_string);
    let reply = server.send(method, path, &headers, body.as_deref().map(str::as_bytes));
    (reply.status, reply.json())
}

fn status(server: &Server, token: &str) -> u16 {
    ask(server, token, "GET", "/api/v1/interaction-types", None).0
}

fn base64(text: &str) -> String {
    // The middle of a token whose claims are these bytes.
    let token = encode(
        &Header::default(),
        &serde_json::from_str::<Value>(text).unwrap(),
        &EncodingKey::from_secret(b"x"),
    );
    token.unwrap().split('.').nth(1).unwrap().to_owned()
}

#[test]
fn forged_tokens_are_refused() {
    let pair = Pair::new("one");
    let rsa: Value = serde_json::from_str(RSA).unwrap();
    let server = server(&[pair.published(), rsa.clone()]);
    for good in [&signed(&json!({})), &pair.token("one"), RSA_TOKEN] {
        assert_eq!(status(&server, good), 200, "{good}");
    }
    let good = signed(&json!({}));
    let [head, payload, signature] = good.split('.').collect::<Vec<_>>()[..] else { panic!("{good}") };
    let none = |name: &str| base64(&json!({"alg": name, "typ": "JWT"}).to_string());
    let admin = base64(&claims(&json!({"roles": ["admin"]})).to_string());
    let modulus = rsa["n"].as_str().unwrap();
    let confused =
        |id: Option<&str>, secret: &str| signed_as(Algorithm::HS256, id, &json!({}), secret.as_bytes());
    let [rsa_head, rsa_payload, rsa_signature] = RSA_TOKEN.split('.').collect::<Vec<_>>()[..] else {
        panic!("{RSA_TOKEN}")
    };
    let cases = [
        ("alg none", format!("{}.{payload}.", none("none"))),
        ("alg None", format!("{}.{payload}.{signature}", none("None"))),
        ("no alg", format!("{}.{payload}.{signature}", base64("{}"))),
        ("no signature", format!("{head}.{payload}.")),
        ("other claims", format!("{head}.{admin}.{signature}")),
        (
            "other secret",
            signed_as(Algorithm::HS256, None, &json!({}), b"another-secret-of-thirty-two-bytes"),
        ),
        ("algorithm not listed", signed_as(Algorithm::HS512, None, &json!({}), SECRET.as_bytes())),
        ("public key as a secret", confused(Some("rsa"), modulus)),
        ("public key's document as a secret", confused(Some("rsa"), RSA)),
        ("public key as a secret, unnamed", confused(None, modulus)),
        ("other claims under RSA", format!("{rsa_head}.{admin}.{rsa_signature}")),
        ("RSA signature cut", format!("{rsa_head}.{rsa_payload}.{}", &rsa_signature[..300])),
        ("another key's name", pair.token("rsa")),
        ("unknown key", pair.token("two")),
        ("another provider's key of the same name", Pair::new("one").token("one")),
        ("not a token", "a.b.c".to_owned()),
        ("too many parts", format!("{good}.{signature}")),
    ];
    for (what, token) in cases {
        let answer = ask(&server, &token, "GET", "/api/v1/interaction-types", None);
        refused(&answer, 401, "AUTH_ERROR", None);
        assert!(!answer.1.to_string().contains(&token), "{what}");
    }
    assert!(!server.log().contains(signature), "a token in the log");
}

#[test]
fn claims_that_do_not_hold_are_refused() {
    let server = server(&[]);
    let now = get_current_timestamp();
    let check = |change: Value, expected: u16| {
        assert_eq!(status(&server, &signed(&change)), expected, "{change}");
    };
    check(json!({}), 200);
    check(json!({"exp": now - 31}), 401);
    check(json!({"exp": null}), 401);
    check(json!({"exp": "never"}), 401);
    check(json!({"nbf": now + 600}), 401);
    check(json!({"nbf": now - 600}), 200);
    check(json!({"iss": "https://other.example"}), 401);
    check(json!({"iss": null}), 401);
    check(json!({"aud": "another-service"}), 401);
    check(json!({"aud": ["another-service", "watershed"]}), 200);
    check(json!({"aud": null}), 401);
    for tenant in [json!(null), json!(""), json!("_system"), json!("a/b"), json!(7), json!(["shop"])] {
        check(json!({"tenant_id": tenant}), 401);
    }
    for roles in [json!(null), json!([]), json!(["root"]), json!({"admin": true}), json!("Admin"), json!(7)] {
        check(json!({"roles": roles}), 401);
    }
}

#[test]
fn the_tenant_and_the_permission_are_those_of_the_token() {
    let server = server(&[]);
    let token = |tenant: &str, roles: Value| signed(&json!({"tenant_id": tenant, "roles": roles}));
    let (shop, other) = (token("shop", json!(["write"])), token("other", json!("openid write")));
    let lamp = json!({"entity_id": "lamp", "attributes": {"mark": "of the shop"}});
    let path = "/api/v1/entities/lamp?entity_type=item";
    assert_eq!(ask(&server, &shop, "POST", "/api/v1/entities", Some(&lamp)).0, 201);
    let (found, entity) = ask(&server, &shop, "GET", path, None);
    assert_eq!((found, entity["tenant_id"].as_str()), (200, Some("shop")), "{entity}");
    refused(&ask(&server, &other, "GET", path, None), 404, "ENTITY_NOT_FOUND", Some("entity_id"));
    assert_eq!(server.get(path).0, 404, "the key of the settings speaks for another tenant");

    let mut named = lamp;
    named["tenant_id"] = "shop".into();
    let answer = ask(&server, &other, "POST", "/api/v1/entities", Some(&named));
    refused(&answer, 403, "TENANT_MISMATCH", Some("tenant_id"));
    for wrong in ["/api/v1/recommendations/popular?tenant_id=shop", "/api/v1/export/entities?tenant_id=shop"]
    {
        let (status, body) = ask(&server, &other, "GET", wrong, None);
        assert!(
            (400..500).contains(&status) && !body.to_string().contains("lamp"),
            "{wrong}: {status} {body}"
        );
    }
    let bearer = format!("Bearer {other}");
    let headers = [("authorization", bearer.as_str()), ("x-tenant-id", "shop")];
    assert_eq!(server.send("GET", path, &headers, None).status, 404);

    let user = json!({"attributes": {}});
    for (roles, may) in
        [("read", [200, 403, 403]), ("write", [200, 200, 403]), ("read admin", [200, 200, 200])]
    {
        let token = token("shop", json!(roles));
        let asked = [
            ("GET", "/api/v1/interaction-types", None),
            ("PUT", "/api/v1/users/ada", Some(&user)),
            ("GET", "/api/v1/keys", None),
        ];
        let found = asked.map(|(method, path, body)| match ask(&server, &token, method, path, body).0 {
            201 => 200,
            status => status,
        });
        assert_eq!(found, may, "{roles}");
    }
}

#[test]
fn roles_have_the_permissions_of_the_settings() {
    let roles = "secret = \"a-shared-secret-of-thirty-two-bytes\"\nroles_claim = \"/realm_access/roles\"\n\
        [auth.jwt.roles]\nviewer = \"read\"\nowner = \"admin\"";
    let server = provider(roles).serve();
    let may = |roles: Value| {
        let token = signed(&json!({"realm_access": {"roles": roles}}));
        ["/api/v1/interaction-types", "/api/v1/keys"].map(|path| ask(&server, &token, "GET", path, None).0)
    };
    assert_eq!(may(json!(["viewer"])), [200, 403]);
    assert_eq!(may(json!(["viewer", "owner"])), [200, 200]);
    assert_eq!(may(json!(["admin"])), [401, 401]);
    assert!(!server.read("/api/config").to_string().contains(SECRET));
}

#[test]
fn keys_change_while_serving() {
    let (one, two) = (Pair::new("one"), Pair::new("two"));
    let home = provider("jwks_file = \"keys.json\"").allowing("the provider's keys stay as they were");
    home.write("keys.json", jwks(&[one.published()]));
    let server = home.serve();
    let is = |pair: &Pair, expected: u16| status(&server, &pair.token(pair.id)) == expected;
    assert!(is(&one, 200) && is(&two, 401));
    server.home().write("keys.json", jwks(&[one.published(), two.published()]));
    assert!(wait(|| is(&two, 200)), "the new key is taken");
    assert!(is(&one, 200));
    server.home().write("keys.json", jwks(&[two.published()]));
    assert!(wait(|| is(&one, 401)), "the old key is refused");
    server.home().write("keys.json", "{\"keys\": [");
    assert!(wait(|| server.log().contains("the provider's keys stay as they were")));
    assert!(is(&two, 200) && is(&one, 401));
    let metrics = server.send("GET", "/metrics", &[], None);
    assert!(metrics.text().contains("token_key_reads_total{outcome=\"failed\"}"), "{}", metrics.text());
}

#[test]
fn keys_come_from_an_address() {
    let pair = Pair::new("one");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = format!("jwks_url = \"http://{}/jwks.json\"", listener.local_addr().unwrap());
    let document = jwks(&[pair.published()]);
    let provides = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = [0; 4_096];
        let read = stream.read(&mut head).unwrap();
        let length = document.len();
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{document}")
            .unwrap();
        String::from_utf8_lossy(&head[..read]).into_owned()
    });
    let server = provider(&place).serve();
    assert!(provides.join().unwrap().starts_with("GET /jwks.json HTTP/1.1\r\n"));
    assert_eq!(status(&server, &pair.token("one")), 200);
    assert_eq!(status(&server, &signed(&json!({}))), 401, "there is no secret");
}

#[test]
fn a_provider_that_is_away_stops_nobody_but_its_tokens() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = format!("jwks_url = \"http://{}/jwks.json\"", listener.local_addr().unwrap());
    drop(listener);
    let server = provider(&place).allowing("the provider's keys stay as they were").serve();
    assert_eq!(status(&server, &Pair::new("one").token("one")), 401);
    server.read("/api/v1/interaction-types");
}

#[test]
fn settings_that_are_not_safe_are_refused() {
    let known = "your-256-bit-secret-is-written-here";
    let home = Home::new()
        .environment("ENVIRONMENT", "production")
        .environment("API_KEY", "9f86d081884c7d659a2feaa0c55ad015");
    let home = home.environment("JWT_SECRET", known);
    home.run(&["serve", "--port", "0"]).failed_with("auth.jwt.secret");
    let check = |name: &'static str, value: &'static str, part: &str| {
        Home::new().environment(name, value).run(&["serve", "--port", "0"]).failed_with(part);
    };
    check("JWT_SECRET", "too-short", "auth.jwt.secret");
    check("JWT_ALGORITHM", "RS256", "auth.jwt");
    check("JWT_JWKS_URL", "http://id.example/jwks.json", "auth.jwt.jwks_url");
    let home = Home::new().environment("JWT_SECRET", SECRET).environment("JWT_ALGORITHM", "none");
    home.run(&["serve", "--port", "0"]).failed_with("auth.jwt.algorithms");
}
