//! One founder's configuration.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::error::LocalError;
use super::site::Site;

/// A node that founds a local cluster together with others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Founder {
    /// Its name in the layout.
    pub name: String,
    /// Its data.
    pub data_dir: PathBuf,
    /// Where it takes peers and clients, UDP.
    pub listen: SocketAddr,
    /// Where others reach it, if that is elsewhere.
    pub advertise: Option<SocketAddr>,
    /// Where it serves health and metrics, TCP.
    pub http: SocketAddr,
    /// Whom it meets first; none for a cluster of one.
    pub seeds: Vec<SocketAddr>,
    /// How many found the cluster.
    pub founders: u16,
}

impl Founder {
    /// The text of its `dynkv.toml`: small shares of the machine, since all nodes are on it.
    ///
    /// # Errors
    /// [`LocalError::Path`].
    pub fn config(&self, site: &Site) -> Result<String, LocalError> {
        let tls = site.node(&self.name);
        let seeds: Vec<String> = self.seeds.iter().map(ToString::to_string).collect();
        let mut net = vec![("listen", self.listen.to_string().into())];
        net.extend(self.advertise.map(|advertise| ("advertise", advertise.to_string().into())));
        let sections: [(&str, Vec<(&str, Value)>); 7] = [
            (
                "node",
                vec![("name", self.name.as_str().into()), ("data_dir", text(&self.data_dir)?), ("shards", 1.into())],
            ),
            (
                "cluster",
                vec![
                    ("name", site.cluster().into()),
                    ("seeds", seeds.into()),
                    ("bootstrap_expect", i64::from(self.founders).into()),
                    ("secret_file", text(&site.secret())?),
                ],
            ),
            ("net", net),
            ("tls", vec![("ca_file", text(&tls.ca)?), ("cert_file", text(&tls.cert)?), ("key_file", text(&tls.key)?)]),
            (
                "storage",
                vec![("block_cache", "64MiB".into()), ("record_cache", "32MiB".into()), ("min_free", "1%".into())],
            ),
            ("http", vec![("listen", self.http.to_string().into())]),
            ("log", vec![("format", "text".into())]),
        ];
        let table: Table = sections
            .into_iter()
            .map(|(name, keys)| {
                let keys: Table = keys.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
                (name.to_owned(), Value::Table(keys))
            })
            .collect();
        Ok(table.to_string())
    }
}

fn text(path: &Path) -> Result<Value, LocalError> {
    path.to_str().map(Value::from).ok_or_else(|| LocalError::Path { path: path.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_advertised_address_is_said_only_if_there_is_one() {
        let dir = tempfile::tempdir().unwrap();
        let site = Site::make(&dir.path().join("certs"), "dev", std::time::UNIX_EPOCH).unwrap();
        let address = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let founder = Founder {
            name: "n1".into(),
            data_dir: dir.path().join("n1"),
            listen: address(1),
            advertise: None,
            http: address(2),
            seeds: vec![address(1), address(3)],
            founders: 2,
        };
        let config = |founder: &Founder| founder.config(&site).unwrap().parse::<Table>().unwrap();
        let plain = config(&founder);
        assert_eq!(plain["net"].get("advertise"), None);
        assert_eq!(plain["cluster"]["seeds"].as_array().unwrap().len(), 2);
        let elsewhere = config(&Founder { advertise: Some(address(4)), ..founder });
        assert_eq!(elsewhere["net"]["advertise"].as_str(), Some("127.0.0.1:4"));
    }
}
