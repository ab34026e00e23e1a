// The first page works without this; with it, its calls answer in place.

import { wireAtOnce } from "./at_once.js";
import { wireDeliveries } from "./deliveries.js";
import { followPulse } from "./pulse.js";

const deliveries = document.getElementById("deliveries");
const pulse = followPulse(deliveries.dataset.token);

wireDeliveries(deliveries, pulse);
for (const section of document.querySelectorAll(".race")) wireAtOnce(section);
