// The page works without this; with it, its calls answer in place.

import { wireCall } from "./call.js";

for (const card of document.querySelectorAll(".call")) wireCall(card);
