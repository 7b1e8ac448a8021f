//! URLs as people may read them.

/// A URL for people to read: without what stands between the user's name and the `@`, and without its parameters,
/// which may hold a password too. Where an `@` comes later than it may, somebody has left a password unescaped, and
/// only the scheme is shown. What is no URL stays as it is.
pub fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, after) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if after.contains('@') {
        return format!("{scheme}://…");
    }
    let path = after.split(['?', '#']).next().unwrap_or_default();
    match authority.rsplit_once('@') {
        Some((credentials, host)) => {
            let user = credentials.split(':').next().unwrap_or_default();
            format!("{scheme}://{user}@{host}{path}")
        }
        None => format!("{scheme}://{authority}{path}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_password() {
        let cases = [
            ("postgres://me:a@b:c@db:1/x?sslmode=require&password=s3cret", "postgres://me@db:1/x"),
            ("postgres://:s3cret@db", "postgres://@db"),
            ("postgres://db?password=s3cret", "postgres://db"),
            ("postgres://me:a/s3cret@db/x", "postgres://…"),
            ("postgres://me:a?s3cret@db/x", "postgres://…"),
            ("postgres://me:a#s3cret@db/x", "postgres://…"),
            ("a@b.db", "a@b.db"),
        ];
        for (url, shown) in cases {
            assert_eq!(without_password(url), shown);
        }
    }
}
