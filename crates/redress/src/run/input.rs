//! The alerts of FILE: read whole, checked whole, before anything is stored.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

use anyhow::{Context as _, Error, bail};
use redress_ingest::{Options, parse_alerts};
use redress_operation_log::{AlertRecord, OperationHistory};
use redress_types::{Alert, AlertId, Delivery};

/// The most bytes that are read; 10,000 alerts as Alertmanager writes them fit in easily.
const BYTES_MAX: usize = 64 * 1024 * 1024;

/// What FILE holds.
pub(crate) struct Input {
    /// The alerts by target, in the order of the file: what concerns one target is submitted in order.
    pub groups: Vec<Vec<Delivery>>,
    /// How many there are.
    pub alerts: usize,
    /// How many the sender left out.
    pub truncated: u64,
}

/// Reads FILE; `-` is standard input.
///
/// Nothing is stored. Every error names the file, and the field where one is wrong.
pub(crate) fn read(file: &Path) -> Result<Input, Error> {
    let name = if file == Path::new("-") { "standard input".to_owned() } else { file.display().to_string() };
    let bytes = bytes_of(file).with_context(|| format!("reading {name}"))?;
    let options = Options { payload_bytes_max: BYTES_MAX, ..Options::default() };
    let parsed = parse_alerts(&bytes, &options).with_context(|| name.clone())?;
    agree(&parsed.deliveries).context(name)?;
    let alerts = parsed.deliveries.len();
    Ok(Input { groups: by_target(parsed.deliveries), alerts, truncated: parsed.truncated })
}

fn bytes_of(file: &Path) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    // One more than is taken: then the parser sees that it is too much, and says so.
    let most = BYTES_MAX as u64 + 1;
    if file == Path::new("-") {
        std::io::stdin().lock().take(most).read_to_end(&mut bytes)?;
    } else {
        std::fs::File::open(file)?.take(most).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

fn by_target(deliveries: Vec<Delivery>) -> Vec<Vec<Delivery>> {
    let mut groups: Vec<Vec<Delivery>> = Vec::new();
    let mut places = HashMap::new();
    for delivery in deliveries {
        let place = *places.entry(delivery.alert.target()).or_insert_with(|| {
            groups.push(Vec::new());
            groups.len() - 1
        });
        if let Some(group) = groups.get_mut(place) {
            group.push(delivery);
        }
    }
    groups
}

/// An id stands for one alert within the file too.
fn agree(deliveries: &[Delivery]) -> Result<(), Error> {
    let mut seen: HashMap<&AlertId, &Alert> = HashMap::new();
    for Delivery { alert, .. } in deliveries {
        let first = seen.entry(&alert.id).or_insert(alert);
        if first.service != alert.service || first.alert_since != alert.alert_since {
            bail!(
                "alert id {:?} is there twice, for service {:?} since {} and for service {:?} since {}; an id \
                 stands for one alert",
                alert.id.as_str(),
                first.service,
                first.alert_since,
                alert.service,
                alert.alert_since
            );
        }
    }
    Ok(())
}

/// Refuses the file when one of its ids is known for another service or start. Looked at before the first alert
/// is submitted, so that the rest of the file is not stored without it.
pub(crate) async fn known(history: &dyn OperationHistory, input: &Input) -> Result<(), Error> {
    for delivery in input.groups.iter().flatten() {
        if let Some(record) = history.alert(&delivery.alert.id).await? {
            same(&record, &delivery.alert)?;
        }
    }
    Ok(())
}

fn same(known: &AlertRecord, alert: &Alert) -> Result<(), Error> {
    if known.service == alert.service && known.alert_since == alert.alert_since {
        return Ok(());
    }
    bail!(
        "nothing was taken: alert id {:?} is known for service {:?} since {}, and this one names service {:?} \
         since {}; an id stands for one alert, for ever: send another id",
        known.id.as_str(),
        known.service,
        known.alert_since,
        alert.service,
        alert.alert_since
    )
}
