// The first page works without this; with it, its calls are made and drawn.

import { wireDeliveries } from "./deliveries.js";
import { wireComics, wireLag, wireLoop } from "./loop.js";
import { followPulse } from "./pulse.js";

const deliveries = document.getElementById("deliveries");
const pulse = followPulse(deliveries.dataset.token);

wireDeliveries(deliveries, pulse);
const loop = document.getElementById("one-loop");
if (loop) { // an app without the tutorials has no calls for the rest
  if (loop.querySelector("form")) wireLoop(loop, pulse); // the key may start jobs
  wireLag(document.getElementById("lag"), pulse);
  wireComics(document.getElementById("comics"));
}
