import { Phone } from "../call/Phone";
import "./page.css";

export default function Page() {
  return <Phone />;
}
