//! What one operation takes, where each figure comes from, and how sure it is.

use serde::Serialize;

/// How sure a figure is, the surest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// Measured by whoever asks.
    Given,
    /// Measured by our benchmarks.
    Measured,
    /// Follows from what was measured elsewhere, if things behave as its source says.
    Extrapolated,
    /// Not measured: a guess to be replaced.
    Assumed,
}

/// A unit cost.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cost {
    /// As `--cost` takes it.
    pub name: &'static str,
    /// How much.
    pub value: f64,
    /// In what.
    pub unit: &'static str,
    /// Of what.
    pub what: &'static str,
    /// How sure that is.
    pub basis: Basis,
    /// Where it comes from.
    pub source: &'static str,
}

macro_rules! costs {
    ($($id:ident $name:literal $value:literal $unit:literal, $what:literal, $basis:ident $source:literal;)*) => {
        /// Names a unit cost.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[expect(missing_docs, reason = "the table says what each is")]
        pub enum CostName { $($id),* }

        /// In the order of [`CostName`].
        const TABLE: &[Cost] = &[$(Cost {
            name: $name, value: $value, unit: $unit, what: $what, basis: Basis::$basis, source: $source,
        }),*];
    };
}

// `docs/capacity.md` tells how each was measured; "Figures" and "On FoundationDB" are parts of
// `docs/performance.md`.
costs! {
    PostNode "post.node_us" 269.0 "us", "a message, in the nodes of the region that accepts it",
        Measured "On FoundationDB: nodes, 64 clients, one node";
    PostFdb "post.fdb_us" 269.0 "us", "a message, in FoundationDB, one copy",
        Measured "On FoundationDB: the server, 64 clients, one node";
    TailNode "tail.node_us" 57.0 "us", "a write, in each further node of a region: it reads along",
        Measured "On FoundationDB: nodes, two (326) less one";
    TailFdb "tail.fdb_us" 17.0 "us", "the same, in FoundationDB",
        Measured "On FoundationDB: the server, two nodes (286) less one";
    BatchNode "batch.node_part" 0.57 "part", "of a write's time in nodes, where batches are larger",
        Measured "On FoundationDB: 256 clients (152) of 64";
    BatchFdb "batch.fdb_part" 0.59 "part", "of a write's time in FoundationDB, where batches are larger",
        Measured "On FoundationDB: 256 clients (158) of 64";
    PostText "post.text_bytes" 121.0 "B", "text of the messages that were measured",
        Measured "unit-costs.py post";
    PostKept "post.kept_bytes" 562.0 "B", "a message: keys and values that stay, s/ t/ p/",
        Measured "rows_and_bytes: 234 + 214 + 114";
    PostLogged "post.logged_bytes" 421.0 "B", "a message: keys and values that go with the logs, f/ k/ L/ A/",
        Measured "rows_and_bytes: 68 + 78 + 268 + 7, in batches of 3.9; elsewhere 358";
    PostKeys "post.keys" 5.5 "keys", "a message, with its share of a batch of 3.9",
        Measured "rows_and_bytes";
    MarkerKept "marker.kept_bytes" 0.0 "B", "a read marker: it replaces the one before it",
        Measured "rows_and_bytes";
    MarkerLogged "marker.logged_bytes" 325.0 "B", "a read marker, f/ k/ L/ A/",
        Measured "rows_and_bytes: 68 + 78 + 167 + 12, in batches of 2.2; elsewhere 265";
    MarkerKeys "marker.keys" 3.9 "keys", "a read marker, with its share of a batch of 2.2",
        Measured "rows_and_bytes";
    ReactionKept "reaction.kept_bytes" 91.0 "B", "a reaction, x/ and more in s/ t/",
        Measured "rows_and_bytes: 86 + 5";
    ReactionLogged "reaction.logged_bytes" 299.0 "B", "a reaction, f/ k/ L/ A/",
        Measured "rows_and_bytes: 68 + 78 + 144 + 8, in batches of 3.2; elsewhere 236";
    ReactionKeys "reaction.keys" 5.6 "keys", "a reaction, with its share of a batch of 3.2",
        Measured "rows_and_bytes";
    PostWan "post.wan_bytes" 334.0 "B", "a message, to each other region, with all headers",
        Measured "unit-costs.py calls:post, 1,100 a second in batches of 2.5, half of 704 to 714, less 21 of have.log_bytes; 389 in batches of 1.3";
    MarkerWan "marker.wan_bytes" 226.0 "B", "a read marker, to each other region",
        Measured "unit-costs.py calls:post,marker: half of 492, of the 82% that moved a marker, less 20 of have.log_bytes";
    ReactionWan "reaction.wan_bytes" 189.0 "B", "a reaction, to each other region",
        Measured "unit-costs.py calls:post,reaction: half of 418, less 20 of have.log_bytes";
    StreamMemory "stream.memory_bytes" 24576.0 "B", "an open stream, in a node",
        Measured "Figures: P6, 24 KiB";
    ProxyMemory "proxy.memory_bytes" 19_300.0 "B", "an open stream, in the proxy that ends TLS on a node's machine",
        Measured "HAProxy 2.6, resident, 6,000 idle streams over TLS";
    NodeMemory "node.memory_bytes" 175e6 "B", "a node with a backlog and no streams",
        Measured "Figures: P6, 167 MiB";
    NodeFiles "node.files" 1048576.0 "files", "what a node may have open: one for each stream",
        Measured "LimitNOFILE of its unit";
    AnswerClient "answer.client_bytes" 680.0 "B", "the answer to a write",
        Measured "unit-costs.py calls: of a post; others are shorter";
    PageClient "page.client_bytes" 24000.0 "B", "a page of 50 messages with reactions",
        Measured "unit-costs.py calls";
    EventClient "event.client_bytes" 620.0 "B", "an event, without its token",
        Measured "unit-costs.py deliver";
    TokenClient "event.log_bytes" 18.0 "B", "each log (shard and origin) in an event's token",
        Measured "unit-costs.py deliver: 839 B for 48 logs";
    GzipShare "gzip.page_part" 0.15 "part", "what gzip leaves of a page",
        Measured "unit-costs.py calls";
    ZstdShare "zstd.log_part" 0.48 "part", "what zstd leaves of logs",
        Measured "7 MB of batches in pieces of 256 KiB, zstd -3";
    PostApply "post.apply_us" 132.0 "us", "a message from elsewhere, in the nodes",
        Extrapolated "0.49 of accepting it: P1, 82-87 of 167-176";
    MarkerNode "marker.node_us" 430.0 "us", "a read marker, in the nodes",
        Extrapolated "1.6 posts: 1.38, 1.61, 1.70 in unit-costs.py calls";
    MarkerApply "marker.apply_us" 112.0 "us", "a read marker from elsewhere",
        Extrapolated "0.85 posts: 0.65 to 0.99, the same";
    ReactionNode "reaction.node_us" 231.0 "us", "a reaction, in the nodes",
        Extrapolated "0.86 posts: 0.83, 0.86, 0.94, the same";
    ReactionApply "reaction.apply_us" 123.0 "us", "a reaction from elsewhere",
        Extrapolated "0.93 posts: 0.83 to 1.04, the same";
    MarkerFdb "marker.fdb_us" 269.0 "us", "a read marker, in FoundationDB",
        Extrapolated "as a post: it writes fewer rows and reads more";
    ReactionFdb "reaction.fdb_us" 269.0 "us", "a reaction, in FoundationDB",
        Extrapolated "as a post: it writes as many rows";
    ApplyFdb "apply.fdb_part" 1.0 "part", "of accepting a write, what applying it takes in FoundationDB",
        Extrapolated "the same rows but k/ are written";
    PageNode "page.node_us" 310.0 "us", "a page of 50 messages, in the nodes",
        Extrapolated "1.8 posts of P1: 1.70, 1.81 in unit-costs.py calls; with the embedded store's part";
    EventNode "event.node_us" 60.0 "us", "an event to one stream: read, rendered, sent",
        Extrapolated "0.35 posts of P1: 0.23, 0.47 in unit-costs.py deliver; the same";
    TokenNode "token.node_us" 36.0 "us", "checking a token that the node has not seen lately",
        Extrapolated "0.21 posts of P1: 0.12 to 0.31 in unit-costs.py token";
    StreamIdle "stream.node_us" 2.0 "us/s", "an open stream: a ping each 20 s",
        Extrapolated "0.012 posts of P1 in unit-costs.py streams";
    StreamOpen "stream.open_us" 168.0 "us", "opening a stream",
        Extrapolated "0.98 posts of P1 in unit-costs.py streams";
    HaveBytes "have.log_bytes" 25.0 "B", "a log that has grown, told on one link, 20 times a second at most",
        Extrapolated "form of the frame, 23 B, and datagrams; unit-costs.py wan fits";
    PageFdb "page.fdb_us" 100.0 "us", "a page, in FoundationDB's storage",
        Assumed "a range of 50 rows and some reads";
    EventFdb "event.fdb_us" 20.0 "us", "an event, in FoundationDB's storage",
        Assumed "one read";
    StatelessShare "fdb.stateless_part" 0.3 "part", "of a write's time in FoundationDB, stateless processes",
        Assumed "a guess; it was one process";
    LogsShare "fdb.logs_part" 0.2 "part", "of the same, logs; the rest is storage",
        Assumed "a guess";
    DiskOverhead "fdb.disk_factor" 1.5 "times", "bytes on disk over those of keys and values",
        Assumed "pages of a B-tree are not full";
    StreamKernel "stream.kernel_bytes" 24576.0 "B", "an open stream, in the kernel of a node's machine",
        Assumed "three sockets and their buffers: to the client, and from the proxy to the node";
    ReservedDiscount "reserved.discount_part" 0.4 "part", "off prices of machines reserved for a year",
        Assumed "a guess";
}

/// All unit costs.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Costs(Vec<Cost>);

impl Default for Costs {
    fn default() -> Self {
        Self(TABLE.to_vec())
    }
}

impl Costs {
    /// What it is, in its unit.
    pub fn of(&self, name: CostName) -> f64 {
        self.0[name as usize].value
    }

    /// All of it.
    pub fn get(&self, name: CostName) -> &Cost {
        &self.0[name as usize]
    }

    /// In the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Cost> {
        self.0.iter()
    }

    /// Puts in what somebody has measured, or says why not.
    pub fn give(&mut self, name: &str, value: f64) -> Result<(), String> {
        let Some(cost) = self.0.iter_mut().find(|cost| cost.name == name) else {
            return Err(format!(
                "there is no unit cost `{name}`; `whimbrel capacity` lists all of them"
            ));
        };
        let (least, most, limits) = match cost.unit {
            PART => (0.0, 1.0, "0 to 1"),
            // Something is divided by it, or by what is a multiple of it.
            TIMES | FILES => (1.0, f64::MAX, "1 or more"),
            _ => (0.0, f64::MAX, "0 or more"),
        };
        if !(least..=most).contains(&value) {
            return Err(format!("{name} is {value} and must be {limits}"));
        }
        cost.value = value;
        cost.basis = Basis::Given;
        cost.source = "given by --cost";
        Ok(())
    }

    pub(super) fn scale(&mut self, name: CostName, times: f64) {
        self.0[name as usize].value *= times;
    }
}

/// The unit of what is a part of something else.
const PART: &str = "part";
/// That of a factor.
const TIMES: &str = "times";
/// That of what a process may have open.
const FILES: &str = "files";
