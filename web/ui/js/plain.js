// Pages that stand still.
import "./shell.js";
import { ready } from "./dom.js";

ready();
