//! The MovieLens data sets of GroupLens: 100K, 1M, and the CSV form of 20M, 25M and 32M.
//!
//! Users and movies become rows with attributes, ratings become interactions of the type `rating`, tags of
//! the type `tag` with the word in their metadata. A 1M set may hold `ratings.csv` with
//! `user,movie,rating,order,fold` in place of `ratings.dat`: the order then stands in for the time, a minute
//! apart, from 2000-04-25 on, when the ratings of the set begin; an unknown order comes first.

use kernel::{Id, Result, Timestamp};

use super::assemble::{Defaults, Ids};
use super::cells::tags;
use super::delimited::Delimited;
use super::detect::Format;
use super::fields::{Fields, Separator, shown};
use super::mapping::Mapping;
use super::text_file::{Decode, Dialect};
use super::{Fault, Parts, Row};
use crate::attributes::{AttributeValue, Attributes};

/// Where the clock of a set without times starts: 2000-04-25T00:00:00Z, when the ratings of MovieLens 1M
/// begin.
const ORDER_START_SECONDS: i64 = 956_620_800;
const ORDER_STEP_SECONDS: i64 = 60;

/// The genres of MovieLens 100K, in the order of its columns.
const GENRES: [&str; 19] = [
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
];

/// The occupations of MovieLens 1M, by their numbers.
const OCCUPATIONS: [&str; 21] = [
    "other",
    "academic/educator",
    "artist",
    "clerical/admin",
    "college/grad student",
    "customer service",
    "doctor/health care",
    "executive/managerial",
    "farmer",
    "homemaker",
    "K-12 student",
    "lawyer",
    "programmer",
    "retired",
    "sales/marketing",
    "scientist",
    "self-employed",
    "technician/engineer",
    "tradesman/craftsman",
    "unemployed",
    "writer",
];

/// One kind of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum File {
    /// `u.data`, `u1.base`, ...
    Ratings100k,
    /// `u.item`
    Movies100k,
    /// `u.user`
    Users100k,
    /// `ratings.dat`
    Ratings1m,
    /// `ratings.csv` with `user,movie,rating,order,fold`
    OrderedRatings1m,
    /// `movies.dat`
    Movies1m,
    /// `users.dat`
    Users1m,
    /// `ratings.csv`
    RatingsCsv,
    /// `movies.csv`
    MoviesCsv,
    /// `tags.csv`
    TagsCsv,
    /// `links.csv`
    LinksCsv,
}

impl File {
    /// Tells it by the name and, for CSV, by the columns.
    pub(super) fn of(stem: &str, columns: &[String]) -> Option<Self> {
        let is_fold = |name: &str| {
            let (fold, part) = name.split_once('.').unwrap_or_default();
            matches!(fold, "u1" | "u2" | "u3" | "u4" | "u5" | "ua" | "ub") && matches!(part, "base" | "test")
        };
        let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
        Some(match (stem, &columns[..]) {
            ("u.data", _) => Self::Ratings100k,
            ("u.item", _) => Self::Movies100k,
            ("u.user", _) => Self::Users100k,
            ("ratings.dat", _) => Self::Ratings1m,
            ("movies.dat", _) => Self::Movies1m,
            ("users.dat", _) => Self::Users1m,
            (_, ["user", "movie", "rating", "order", "fold"]) => Self::OrderedRatings1m,
            (_, ["userId", "movieId", "rating", "timestamp"]) => Self::RatingsCsv,
            (_, ["movieId", "title", "genres"]) => Self::MoviesCsv,
            (_, ["userId", "movieId", "tag", "timestamp"]) => Self::TagsCsv,
            (_, ["movieId", "imdbId", "tmdbId"]) => Self::LinksCsv,
            (name, _) if is_fold(name) => Self::Ratings100k,
            _ => return None,
        })
    }

    pub(super) fn format(self) -> Format {
        match self {
            Self::Ratings100k | Self::Movies100k | Self::Users100k => Format::MovieLens100k,
            Self::Ratings1m | Self::OrderedRatings1m | Self::Movies1m | Self::Users1m => Format::MovieLens1m,
            Self::RatingsCsv | Self::MoviesCsv | Self::TagsCsv | Self::LinksCsv => Format::MovieLens,
        }
    }

    /// Things come before what happened to them.
    pub(super) fn rank(self) -> u8 {
        match self {
            Self::Movies100k | Self::Movies1m | Self::MoviesCsv | Self::LinksCsv => 0,
            Self::Users100k | Self::Users1m => 1,
            Self::Ratings100k | Self::Ratings1m | Self::OrderedRatings1m | Self::RatingsCsv => 2,
            Self::TagsCsv => 3,
        }
    }

    pub(super) fn dialect(self) -> Dialect {
        let plain = |separator| Dialect { separator, quotes: false, header: false, latin1: true };
        match self {
            Self::Ratings100k => plain(Separator::Byte(b'\t')),
            Self::Movies100k | Self::Users100k => plain(Separator::Byte(b'|')),
            Self::Ratings1m | Self::Movies1m | Self::Users1m => plain(Separator::DoubleColon),
            _ => Dialect { separator: Separator::Byte(b','), quotes: true, header: true, latin1: false },
        }
    }

    pub(super) fn decode(self, defaults: Defaults) -> Result<Box<dyn Decode>> {
        let ratings = "user_id=user,entity_id=movie,value=rating,timestamp=timestamp:s";
        let (columns, mapping): (&[&str], &str) = match self {
            Self::Ratings100k | Self::Ratings1m => (&["user", "movie", "rating", "timestamp"], ratings),
            Self::Users100k => (
                &["user", "age", "gender", "occupation", "zip_code"],
                "user_id=user,attributes.age=age:number,attributes.gender=gender:text,\
                 attributes.occupation=occupation:text,attributes.zip_code=zip_code:text",
            ),
            Self::RatingsCsv => (&[], "user_id=userId,entity_id=movieId,value=rating,timestamp=timestamp:s"),
            Self::TagsCsv => (
                &[],
                "user_id=userId,entity_id=movieId,metadata.tag=tag:text,timestamp=timestamp:s,interaction_type='tag'",
            ),
            Self::LinksCsv => {
                (&[], "entity_id=movieId,attributes.imdb_id=imdbId:text,attributes.tmdb_id=tmdbId:text")
            }
            Self::OrderedRatings1m => {
                return Ok(Box::new(Ordered {
                    interaction_type: defaults.interaction_type(true)?,
                    entity_type: defaults.entity_type,
                    ids: Ids::new(),
                }));
            }
            Self::Movies100k | Self::Movies1m | Self::MoviesCsv => {
                return Ok(Box::new(Movies { file: self, defaults, ids: Ids::new() }));
            }
            Self::Users1m => return Ok(Box::new(Users { ids: Ids::new() })),
        };
        let mapping: Mapping = mapping.parse()?;
        Ok(match columns {
            [] => Box::new(Delimited::with_header(Some(mapping), defaults)),
            columns => Box::new(Delimited::with_columns(mapping, columns, defaults)?),
        })
    }
}

struct Movies {
    file: File,
    defaults: Defaults,
    ids: Ids,
}

impl Decode for Movies {
    fn record(&mut self, fields: &Fields<'_>, _line: u64, rows: &mut Parts) -> Result<(), Fault> {
        let columns = if self.file == File::Movies100k { 5 + GENRES.len() } else { 3 };
        if fields.len() != columns {
            return Err(Fault::line(format!("it has {} fields, a movie has {columns}", fields.len())));
        }
        let entity_id = self.ids.get(fields.required(0, "movie")?, "movie")?;
        let mut attributes = title_and_year(fields.required(1, "title")?);
        let genres: Vec<String> = if self.file == File::Movies100k {
            if let Some(date) = fields.get(2).filter(|date| !date.is_empty()) {
                // As it stands where it is no date: what a file says is not dropped.
                let date = jiff::civil::Date::strptime("%d-%b-%Y", date)
                    .map_or_else(|_| date.to_owned(), |date| date.to_string());
                attributes.insert("release_date".to_owned(), AttributeValue::Text(date));
            }
            let flagged = GENRES.iter().enumerate().filter(|(place, _)| fields.get(5 + place) == Some("1"));
            flagged.map(|(_, genre)| (*genre).to_owned()).collect()
        } else {
            tags(fields.required(2, "genres")?, '|')
        };
        let genres: Vec<String> = genres
            .into_iter()
            .filter(|genre| !matches!(genre.as_str(), "(no genres listed)" | "unknown"))
            .collect();
        if !genres.is_empty() {
            attributes.insert("genres".to_owned(), AttributeValue::Tags(genres));
        }
        crate::attributes::check_attributes(&attributes, "attributes")?;
        rows.push((0, Row::described(entity_id, self.defaults.entity_type.clone(), attributes)));
        Ok(())
    }
}

/// `Toy Story (1995)` is a title and a year; some titles have no year.
fn title_and_year(text: &str) -> Attributes {
    let text = text.trim();
    let year = text
        .strip_suffix(')')
        .and_then(|rest| rest.rsplit_once('('))
        .filter(|(_, digits)| digits.len() == 4)
        .and_then(|(title, digits)| Some((title.trim_end(), digits.parse::<u16>().ok()?)));
    let mut attributes = Attributes::new();
    let title = match year {
        Some((title, year)) => {
            attributes.insert("year".to_owned(), AttributeValue::Number(f64::from(year)));
            title
        }
        None => text,
    };
    if !title.is_empty() {
        attributes.insert("title".to_owned(), AttributeValue::Text(title.to_owned()));
    }
    attributes
}

struct Users {
    ids: Ids,
}

impl Decode for Users {
    fn record(&mut self, fields: &Fields<'_>, _line: u64, rows: &mut Parts) -> Result<(), Fault> {
        if fields.len() != 5 {
            return Err(Fault::line(format!("it has {} fields, a user has 5", fields.len())));
        }
        let user_id = self.ids.get(fields.required(0, "user")?, "user")?;
        let age = fields.required(2, "age")?;
        let age: u8 = age.parse().map_err(|_| Fault::new("age", format!("{} is not an age", shown(age))))?;
        let occupation = fields.required(3, "occupation")?;
        let name = occupation.parse().ok().and_then(|number: usize| OCCUPATIONS.get(number));
        let name = name.ok_or_else(|| {
            Fault::new("occupation", format!("{} is not one of 0 to 20", shown(occupation)))
        })?;
        let text = |text: &str| AttributeValue::Text(text.to_owned());
        let attributes = Attributes::from([
            ("age".to_owned(), AttributeValue::Number(f64::from(age))),
            ("gender".to_owned(), text(fields.required(1, "gender")?)),
            ("occupation".to_owned(), text(name)),
            ("zip_code".to_owned(), text(fields.required(4, "zip_code")?)),
        ]);
        crate::attributes::check_attributes(&attributes, "attributes")?;
        rows.push((0, Row::User { user_id, attributes }));
        Ok(())
    }
}

/// `user,movie,rating,order,fold`.
struct Ordered {
    entity_type: Id,
    interaction_type: Id,
    ids: Ids,
}

impl Decode for Ordered {
    fn record(&mut self, fields: &Fields<'_>, _line: u64, rows: &mut Parts) -> Result<(), Fault> {
        let value = fields.required(2, "rating")?;
        let rating: Option<f64> = value.parse().ok().filter(|rating: &f64| rating.is_finite());
        let order = match fields.required(3, "order")? {
            "" => 0,
            text => text
                .parse::<u32>()
                .map_err(|_| Fault::new("order", format!("{} is not a place", shown(text))))?,
        };
        let seconds = ORDER_START_SECONDS + ORDER_STEP_SECONDS * i64::from(order);
        rows.push((
            0,
            Row::Interaction {
                user_id: self.ids.get(fields.required(0, "user")?, "user")?,
                entity_id: self.ids.get(fields.required(1, "movie")?, "movie")?,
                entity_type: self.entity_type.clone(),
                interaction_type: self.interaction_type.clone(),
                value: Some(rating.ok_or_else(|| {
                    Fault::new("rating", format!("{} is not a finite number", shown(value)))
                })?),
                timestamp: Timestamp::from_second(seconds).ok(),
                metadata: Attributes::new(),
            },
        ));
        Ok(())
    }
}
