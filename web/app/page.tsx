import { Phone } from "../call/Phone";

export default function Page() {
  return <Phone />;
}
