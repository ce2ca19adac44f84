//! Where the regions are.

use reqwest::Url;

use crate::Error;

/// Where a region answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its name, where it was given.
    pub region: Option<String>,
    /// Without `/v1`.
    pub url: String,
}

impl Endpoint {
    /// A region whose name is known.
    pub fn named(region: impl Into<String>, url: impl Into<String>) -> Self {
        Self {
            region: Some(region.into()),
            url: url.into(),
        }
    }

    /// Reads a list as in `WHIMBREL_URLS`: comma-separated, each `name=url` or only `url`.
    pub fn parse_list(list: &str) -> Result<Vec<Self>, Error> {
        let mut endpoints = Vec::new();
        for item in list
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
        {
            // A `=` may also stand in a URL's query, but not before its `://`.
            let (region, url) = match item.split_once('=') {
                Some((name, url)) if !name.contains("://") => (Some(name.trim()), url.trim()),
                _ => (None, item),
            };
            parse_url(url)?;
            endpoints.push(Self {
                region: region.map(str::to_owned),
                url: url.to_owned(),
            });
        }
        Ok(endpoints)
    }
}

/// The regions of a client, and the one that it prefers.
#[derive(Clone, Debug)]
pub(crate) struct Regions {
    all: Vec<(Option<String>, Url)>,
    preferred: usize,
}

impl Regions {
    pub(crate) fn new(endpoints: &[Endpoint], prefer: Option<&str>) -> Result<Self, Error> {
        if endpoints.is_empty() {
            return Err(Error::config(
                "no region to talk to: give at least one URL, e.g. http://127.0.0.1:7001",
            ));
        }
        let all = endpoints
            .iter()
            .map(|endpoint| Ok((endpoint.region.clone(), parse_url(&endpoint.url)?)))
            .collect::<Result<Vec<_>, Error>>()?;
        let preferred = match prefer {
            None => 0,
            Some(name) => all
                .iter()
                .position(|(region, _)| region.as_deref() == Some(name))
                .ok_or_else(|| {
                    let known: Vec<_> = all.iter().filter_map(|(r, _)| r.as_deref()).collect();
                    if known.is_empty() {
                        Error::config(format!(
                            "no URL is known for region `{name}`: give URLs as name=url"
                        ))
                    } else {
                        let known = known.join(", ");
                        Error::config(format!("no region `{name}`; there are: {known}"))
                    }
                })?,
        };
        Ok(Self { all, preferred })
    }

    /// Where the next call goes.
    pub(crate) fn preferred(&self) -> &Url {
        &self.all[self.preferred].1
    }

    /// Whether any region is asked over TLS.
    pub(crate) fn any_tls(&self) -> bool {
        self.all.iter().any(|(_, url)| url.scheme() == "https")
    }
}

fn parse_url(text: &str) -> Result<Url, Error> {
    let refused = |why: &str| Error::config(format!("`{text}` is no URL of a region: {why}"));
    let url = Url::parse(text).map_err(|error| refused(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(refused("it must start with http:// or https://"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(refused("it must not have a query or fragment"));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        let list = Endpoint::parse_list("eu=http://a:1, us=https://b/x,http://c").unwrap();
        assert_eq!(list[0], Endpoint::named("eu", "http://a:1"));
        assert_eq!(list[1], Endpoint::named("us", "https://b/x"));
        assert_eq!(list[2].region, None);
        assert!(Endpoint::parse_list("").unwrap().is_empty());
        for bad in ["eu=", "127.0.0.1:80", "ftp://a", "http://a?x=1"] {
            assert!(Endpoint::parse_list(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn preference() {
        let list = Endpoint::parse_list("eu=http://a,us=http://b").unwrap();
        let preferred = |name| Regions::new(&list, name).map(|r| r.preferred().to_string());
        assert_eq!(preferred(None).unwrap(), "http://a/");
        assert_eq!(preferred(Some("us")).unwrap(), "http://b/");
        let error = preferred(Some("ap")).unwrap_err().to_string();
        assert_eq!(error, "no region `ap`; there are: eu, us");
        assert!(Regions::new(&[], None).is_err());
    }
}
