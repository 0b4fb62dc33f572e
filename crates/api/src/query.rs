//! The part of a URL behind the question mark: repeated keys, paging and its links (api-and-kumactl 1.9).

use model::Path;
use model::Violations;

use crate::problem::Problem;

/// Decoded pairs in the order of the URL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Parses the text behind `?`; what is no pair counts as a key without value.
    pub fn parse(text: Option<&str>) -> Self {
        Self(form_urlencoded::parse(text.unwrap_or_default().as_bytes()).into_owned().collect())
    }

    /// First value of a key, if it is there and not empty.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.pairs().find(|(k, _)| *k == key).map(|(_, value)| value).filter(|value| !value.is_empty())
    }

    /// Every value of a key.
    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.pairs().filter(move |(k, _)| *k == key).map(|(_, value)| value)
    }

    /// Every pair.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// The same query with one key set, keys sorted, encoded as the real system does.
    fn with(&self, key: &str, value: &str) -> String {
        let others = self.pairs().filter(|(k, _)| *k != key);
        let mut pairs: Vec<(&str, &str)> = others.chain(std::iter::once((key, value))).collect();
        pairs.sort_by_key(|(k, _)| *k);
        let encoded = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
        encoded.replace('*', "%2A").replace("%7E", "~")
    }
}

/// Most items that one page may have.
pub const MAX_PAGE_SIZE: i64 = 1000;
/// Items of a page whose size nobody asked for.
pub const DEFAULT_PAGE_SIZE: i64 = 100;

/// Which part of a list is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    size: i64,
    offset: usize,
}

/// One page of a list and where the next begins.
#[derive(Debug, PartialEq, Eq)]
pub struct Paged<T> {
    /// Items of the whole list.
    pub total: usize,
    /// Items of this page.
    pub items: Vec<T>,
    /// Value of `offset` for the next page, if there is one.
    pub next: Option<i64>,
}

impl Page {
    /// Reads `size` and `offset`.
    ///
    /// # Errors
    /// A problem under the caller's title: no number, a size above [`MAX_PAGE_SIZE`], a negative offset (on which the
    /// real system drops the connection).
    pub fn from_query(query: &Query, title: &str) -> Result<Self, Problem> {
        let size = match query.get("size").map(str::parse::<i64>) {
            None | Some(Ok(0)) => DEFAULT_PAGE_SIZE,
            Some(Ok(size)) if size <= MAX_PAGE_SIZE => size,
            Some(Ok(size)) => {
                let reason = format!("invalid page size of {size}. Maximum page size is {MAX_PAGE_SIZE}");
                return Err(Self::bad_size(title, reason));
            }
            Some(Err(_)) => return Err(Self::bad_size(title, "invalid format".to_owned())),
        };
        let Some(text) = query.get("offset") else { return Ok(Self { size, offset: 0 }) };
        let bad_offset = |what: &str| {
            let detail = format!("invalid: invalid offset: {what}");
            Problem::new(http::StatusCode::BAD_REQUEST, title, detail)
        };
        let Ok(offset) = text.parse::<i64>() else {
            return Err(bad_offset(&format!("strconv.Atoi: parsing {text:?}: invalid syntax")));
        };
        let offset = usize::try_from(offset).map_err(|_| bad_offset(&format!("{offset} is negative")))?;
        Ok(Self { size, offset })
    }

    fn bad_size(title: &str, reason: String) -> Problem {
        let mut faults = Violations::default();
        faults.add(&Path::of("size"), reason);
        Problem { detail: "Invalid page size".to_owned(), ..Problem::invalid(title, faults) }
    }

    /// Cuts this page out of a list whose length is known; what stands behind the page is not walked.
    pub fn cut_of<T>(self, total: usize, list: impl Iterator<Item = T>) -> Paged<T> {
        let size = usize::try_from(self.size).unwrap_or(0);
        Paged { total, items: list.skip(self.offset).take(size).collect(), next: self.next(total) }
    }

    /// Cuts this page out of a list, which is walked once to count it.
    pub fn cut<T>(self, list: impl Iterator<Item = T>) -> Paged<T> {
        let size = usize::try_from(self.size).unwrap_or(0);
        let mut total = 0;
        let mut items = Vec::new();
        for item in list {
            if total >= self.offset && items.len() < size {
                items.push(item);
            }
            total += 1;
        }
        Paged { total, items, next: self.next(total) }
    }

    /// Where the next page of so many items begins, if there is one.
    fn next(self, total: usize) -> Option<i64> {
        let after = i64::try_from(self.offset).unwrap_or(i64::MAX).saturating_add(self.size);
        (after < i64::try_from(total).unwrap_or(i64::MAX)).then_some(after)
    }
}

/// URL of the page that begins at `offset`: scheme and host as the client wrote them, keys sorted.
pub fn next_link(origin: &str, path: &str, query: &Query, offset: i64) -> String {
    format!("{origin}{path}?{}", query.with("offset", &offset.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(query: &str) -> Result<Page, Problem> {
        Page::from_query(&Query::parse(Some(query)), "t")
    }

    fn cut(query: &str, total: usize) -> (Vec<usize>, Option<i64>) {
        let paged = page(query).unwrap().cut(0..total);
        assert_eq!(paged.total, total);
        assert_eq!(page(query).unwrap().cut_of(total, 0..total), paged);
        (paged.items, paged.next)
    }

    /// API-4: default, maximum, zero and negative sizes, and offsets past the end.
    #[test]
    fn a_page_is_cut_as_recorded() {
        assert_eq!(cut("", 5), ((0..5).collect(), None));
        assert_eq!(cut("size=2", 5), (vec![0, 1], Some(2)));
        assert_eq!(cut("size=2&offset=1", 3), (vec![1, 2], None));
        assert_eq!(cut("size=0", 150).1, Some(100));
        assert_eq!(cut("size=-1", 5), (vec![], Some(-1)));
        assert_eq!(cut("offset=99", 5), (vec![], None));
    }

    #[test]
    fn bad_numbers_say_what_is_wrong() {
        let refused = |query| page(query).unwrap_err();
        assert_eq!(refused("size=abc").parameters[0].reason, "invalid format");
        assert_eq!(refused("size=2000").parameters[0].reason, "invalid page size of 2000. Maximum page size is 1000");
        let text = r#"invalid: invalid offset: strconv.Atoi: parsing "x": invalid syntax"#;
        assert_eq!(refused("offset=x").detail, text);
        assert_eq!(refused("offset=-1").detail, "invalid: invalid offset: -1 is negative");
    }

    #[test]
    fn the_link_keeps_the_query_with_keys_sorted() {
        let query = Query::parse(Some("size=2&name=a b&filter[labels.x]=~*&offset=0"));
        let link = next_link("http://cp:5681", "/meshes", &query, 2);
        assert_eq!(link, "http://cp:5681/meshes?filter%5Blabels.x%5D=~%2A&name=a+b&offset=2&size=2");
    }
}
