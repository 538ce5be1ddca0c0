//! MovieLens in its three shapes.

use super::*;

pub(super) const RATINGS: &[u8] =
    b"userId,movieId,rating,timestamp\n1,31,2.5,1260759144\n1,1029,3.0,1260759179\n";

#[test]
fn movielens_is_read() {
    assert_eq!(
        import(
            &[
                ("u.data", b"196\t242\t3\t881250949\n"),
                (
                    "u.item",
                    b"2|Toy Story (1995)|01-Jan-1995||url|0|0|0|1|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0\n\
                    267|unknown||||1|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0\n3|caf\xe9|\n"
                ),
                ("u.user", b"1|24|M|technician|85711\n2|old|F|other|1\n"),
                ("u1.base", b"1\t1\t5\t874965758\n"),
            ],
            &Request::default()
        ),
        [
            r#"u.item:1 movie 2 {"genres":["Animation"],"release_date":"1995-01-01","title":"Toy Story","year":1995}"#,
            r#"u.item:2 movie 267 {"title":"unknown"}"#,
            r#"u.user:1 user 1 {"age":24,"gender":"M","occupation":"technician","zip_code":"85711"}"#,
            "u.data:1 196 rating=3 movie 242@1997-12-04T15:55:49Z",
            "! u.item:3: it has 3 fields, a movie has 24",
            "! u.user:2: age: `old` is not a finite number",
        ]
    );
    assert_eq!(
        import(
            &[
                ("ratings.dat", b"1::1193::5::978300760\n1::1193::x::978300760\n"),
                ("movies.dat", b"1::Le caf\xe9 (1995)::Comedy|War\n"),
                ("users.dat", b"1::F::1::10::48067\n2::F::1::99::48067\n"),
            ],
            &Request::default()
        ),
        [
            r#"movies.dat:1 movie 1 {"genres":["Comedy","War"],"title":"Le café","year":1995}"#,
            r#"users.dat:1 user 1 {"age":1,"gender":"F","occupation":"K-12 student","zip_code":"48067"}"#,
            "ratings.dat:1 1 rating=5 movie 1193@2000-12-31T22:12:40Z",
            "! users.dat:2: occupation: `99` is not one of 0 to 20",
            "! ratings.dat:2: rating: `x` is not a finite number",
        ]
    );
    assert_eq!(
        import(
            &[(
                "ratings.csv",
                b"user,movie,rating,order,fold\r\n1,3186,4,1,5\r\n2,5,3,,1\r\n1,1,NaN,2,5\r\n"
            )],
            &Request::default()
        ),
        [
            "ratings.csv:2 1 rating=4 movie 3186@2000-04-25T00:01:00Z",
            "ratings.csv:3 2 rating=3 movie 5@2000-04-25T00:00:00Z",
            "! ratings.csv:4: rating: `NaN` is not a finite number",
        ]
    );
    assert_eq!(
        import(
            &[
                ("links.csv", b"movieId,imdbId,tmdbId\n1,0114709,862\n"),
                ("movies.csv", b"movieId,title,genres\n1,\"City, The (1995)\",(no genres listed)\n"),
                ("ratings.csv", RATINGS),
                ("tags.csv", b"userId,movieId,tag,timestamp\n3,1,007,1445714994\n"),
            ],
            &Request::default()
        ),
        [
            r#"links.csv:2 movie 1 {"imdb_id":"0114709","tmdb_id":"862"}"#,
            r#"movies.csv:2 movie 1 {"title":"City, The","year":1995}"#,
            "ratings.csv:2 1 rating=2.5 movie 31@2009-12-14T02:52:24Z",
            "ratings.csv:3 1 rating=3 movie 1029@2009-12-14T02:52:59Z",
            r#"tags.csv:2 3 tag movie 1@2015-10-24T19:29:54Z{"tag":"007"}"#,
        ]
    );
}
